/** Sockets of Bun.udpSocket. */
import { originalOf } from "../../src/core/marks.ts";
import type { DatagramHost, NativeDatagrams } from "../../src/core/datagrams.ts";
import type { ServeFunction } from "../../src/core/native.ts";
import type { DescriptorSocket } from "../shared/descriptor_datagrams.ts";
import { createOpening, isMemberByCode, joinAgain } from "../shared/datagram_opening.ts";
import { override } from "./native.ts";

/** The options of Bun.udpSocket that are looked at. */
interface Options {
  readonly port?: unknown;
  readonly hostname?: unknown;
  readonly connect?: { readonly hostname?: unknown; readonly port?: unknown };
}

/** A socket of Bun.udpSocket. */
interface UdpSocket {
  readonly fd: number;
  readonly port: number;
  readonly hostname: string;
  readonly closed: boolean;
  close(): void;
}

function open(udpSocket: ServeFunction, host: DatagramHost, options: Options): Promise<UdpSocket> {
  const { port, hostname, connect } = options;
  const peer = connect && `${connect.hostname}:${connect.port}`;
  const { key, inherited } = host.place({ type: "udp", hostname, port, peer });
  const opening = createOpening<UdpSocket>();
  let socket: UdpSocket | undefined;
  /** Known before the socket is. */
  let fd: number | undefined;

  const settle = (opened: Promise<UdpSocket>) =>
    opening.settle(opened.then((open) => {
      socket = open;
      if (fd !== undefined) joinAgain(open, isMemberByCode, true);
      return open;
    }));

  const self: DescriptorSocket = {
    key,
    opened: opening.opened,
    get isClosed() {
      return opening.hasFailed || socket?.closed === true;
    },
    reported: () => ({ hostname: socket?.hostname, port: socket?.port }),
    descriptor: () => socket?.fd ?? fd,
    later: {
      on(shared) {
        fd = (shared as { fd: number }).fd;
        // Bun polls it when the call returns. The option is not documented; its own node:dgram uses
        // it.
        settle(udpSocket(override(options, { fd }))).catch(() => {}); // `opened` reports it.
      },
      async anew({ reported }) {
        // An attempt that fails is no failure yet: the kernel may need a moment.
        await settle(Promise.resolve(await udpSocket(override(options, { port: reported.port }))));
      },
    },
    fail: (error) => void settle(Promise.reject(error)).catch(() => {}),
    close: () => socket?.close(),
  };
  host.add(self);
  return inherited === undefined ? settle(udpSocket(options)) : opening.opened;
}

/** Bun.udpSocket, which the token can adopt. */
export function bunDatagrams(bun: { readonly udpSocket?: unknown }): NativeDatagrams {
  return {
    name: "Bun.udpSocket",
    is: (open) => open !== undefined && originalOf(open) === originalOf(bun.udpSocket),
    adopt: (udpSocket, host) => (options: Options) =>
      typeof options === "object" && options !== null
        ? open(originalOf(udpSocket), host, options)
        : udpSocket(options),
  };
}
