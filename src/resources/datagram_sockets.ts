/**
 * The datagram sockets of this process. Those of the runtime's own functions are opened before the
 * rest of the library is loaded.
 */
import type { BasicAdapter } from "../core/adapter.ts";
import type { DatagramAddress, DatagramHost, DatagramSocket } from "../core/datagrams.ts";
import type { InheritedAddress } from "../core/native.ts";
import { parseOffered } from "../protocol/handshake.ts";

/** The datagram sockets of this process. */
export interface DatagramSockets extends DatagramHost {
  /** Those that are open, or wait for that of the predecessor. */
  readonly sockets: readonly DatagramSocket[];
  /** Those that the predecessor has, by their keys. */
  readonly inherited: Map<string, InheritedAddress>;
  /** Called for each that is added from now on. */
  onAdd: ((socket: DatagramSocket) => void) | undefined;
}

/** No sockets yet. */
export function createDatagramSockets(
  { nativeOffer }: Pick<BasicAdapter, "nativeOffer">,
): DatagramSockets {
  let sockets: DatagramSocket[] = [];
  const inherited = parseOffered(nativeOffer, "datagrams");

  function keyOf({ type, hostname, port, peer }: DatagramAddress): string {
    const base = `${type} ${hostname ?? "*"}:${port ?? 0}${
      peer === undefined ? "" : ` to ${peer}`
    }`;
    const taken = new Set(self.sockets.map(({ key }) => key));
    let key = base;
    for (let i = 2; taken.has(key); i++) key = `${base} #${i}`;
    return key;
  }

  const self: DatagramSockets = {
    get sockets() {
      return sockets = sockets.filter(({ isClosed }) => !isClosed);
    },
    inherited,
    onAdd: undefined,
    place(asked) {
      const key = keyOf(asked);
      return { key, inherited: inherited.get(key) };
    },
    add(socket) {
      sockets.push(socket);
      self.onAdd?.(socket);
    },
  };
  return self;
}
