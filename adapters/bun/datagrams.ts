/** Sockets of Bun.udpSocket. */
import { originalOf } from "../../src/core/marks.ts";
import type { DatagramHost, NativeDatagrams } from "../../src/core/datagrams.ts";
import type { ServeFunction } from "../../src/core/native.ts";
import type { DescriptorSocket } from "../shared/descriptor_datagrams.ts";
import { isMemberByCode, joinAgain } from "../shared/join_again.ts";
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
  const opened = Promise.withResolvers<UdpSocket>();
  opened.promise.catch(() => {}); // May reject before anybody waits.
  let socket: UdpSocket | undefined;
  let hasFailed = false;
  /** Known before the socket is. */
  let fd: number | undefined;

  async function settle(opening: Promise<UdpSocket>): Promise<UdpSocket> {
    try {
      socket = await opening;
      if (fd !== undefined) joinAgain(socket, isMemberByCode, true);
      opened.resolve(socket);
      return socket;
    } catch (error) {
      hasFailed = true;
      opened.reject(error);
      throw error;
    }
  }

  const self: DescriptorSocket = {
    key,
    opened: opened.promise,
    get isClosed() {
      return hasFailed || socket?.closed === true;
    },
    reported: () => ({ hostname: socket?.hostname, port: socket?.port }),
    descriptor: () => socket?.fd ?? fd,
    later: {
      on(shared) {
        fd = (shared as { fd: number }).fd;
        // Bun polls it when the call returns. The option is not documented; its own node:dgram uses it.
        settle(udpSocket(override(options, { fd }))).catch(() => {}); // `opened` reports it.
      },
      async anew({ reported }) {
        // An attempt that fails is no failure yet: the kernel may need a moment.
        const opening: Promise<UdpSocket> = udpSocket(override(options, { port: reported.port }));
        await opening;
        await settle(opening);
      },
    },
    fail: (error) => void settle(Promise.reject(error)).catch(() => {}),
    close: () => socket?.close(),
  };
  host.add(self);
  return inherited === undefined ? settle(udpSocket(options)) : opened.promise;
}

/** Bun.udpSocket, which the token can adopt. */
export function bunDatagrams(bun: { readonly udpSocket?: unknown }): NativeDatagrams {
  return {
    name: "Bun.udpSocket",
    is: (open) => open !== undefined && originalOf(open) === originalOf(bun.udpSocket),
    adopt: (udpSocket, host) => (options: Options) =>
      typeof options === "object" && options !== null ? open(originalOf(udpSocket), host, options) : udpSocket(options),
  };
}
