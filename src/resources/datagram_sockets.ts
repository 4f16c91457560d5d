/**
 * The datagram sockets of this process. Those of the runtime's own functions are opened before the
 * rest of the library is loaded.
 */
import type { BasicAdapter } from "../core/adapter.ts";
import type { DatagramAddress, DatagramHost, DatagramSocket } from "../core/datagrams.ts";
import type { InheritedAddress } from "../core/native.ts";
import { parseOffered } from "../protocol/handshake.ts";
import { freeKey } from "./free_key.ts";

/** The datagram sockets of this process. */
export interface DatagramSockets extends DatagramHost {
  /** Those that are open, or wait for that of the predecessor. */
  readonly sockets: readonly DatagramSocket[];
  /** Those that the predecessor has, by their keys. */
  readonly inherited: Map<string, InheritedAddress>;
  /** Called for each that is added from now on. */
  onAdd: ((socket: DatagramSocket) => void) | undefined;
}

function nameOf({ type, hostname, port, peer }: DatagramAddress): string {
  const address = `${type} ${hostname ?? "*"}:${port ?? 0}`;
  return peer === undefined ? address : `${address} to ${peer}`;
}

/** No sockets yet. */
export function createDatagramSockets(
  { nativeOffer }: Pick<BasicAdapter, "nativeOffer">,
): DatagramSockets {
  let sockets: DatagramSocket[] = [];
  const inherited = parseOffered(nativeOffer, "datagrams");

  const self: DatagramSockets = {
    get sockets() {
      return sockets = sockets.filter(({ isClosed }) => !isClosed);
    },
    inherited,
    onAdd: undefined,
    place(asked) {
      const key = freeKey(nameOf(asked), new Set(self.sockets.map(({ key }) => key)));
      return { key, inherited: inherited.get(key) };
    },
    add(socket) {
      sockets.push(socket);
      self.onAdd?.(socket);
    },
  };
  return self;
}
