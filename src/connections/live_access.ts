/**
 * What a move does with a connection: one of node:net, or one that the runtime serves by itself.
 */
import { isNative, type NativeSocket } from "../core/native_socket.ts";
import type { LiveSocket } from "../core/live.ts";
import type { ConnectionAdapter, Libc } from "../core/socket_adapter.ts";
import { setReading } from "../linux/polling.ts";
import { scanSockets, type SocketScan } from "../linux/socket_scan.ts";
import { takeConnection } from "../linux/transplant.ts";

/** What the natives need. */
export interface NativeAccess {
  readonly libc: Libc;
  /** The key of the server that has accepted a connection. */
  serverOf(scan: SocketScan, fd: number): string | undefined;
}

/** The operations on the connections of one reload. */
export interface LiveAccess {
  /** What is known of descriptors is looked up again. */
  refresh(): void;
  /** Whether a connection can be sent to the new process at all. */
  canMove(socket: LiveSocket): boolean;
  stop(socket: LiveSocket): void;
  start(socket: LiveSocket): void;
  /**
   * Takes a connection out of its server, which the application has let go of. Returns its
   * descriptor; `undefined`: it is where it was.
   */
  take(socket: NativeSocket): number | undefined;
}

/** Makes them. */
export function liveAccess(
  adapter: ConnectionAdapter,
  native: NativeAccess | undefined,
): LiveAccess {
  let scan: SocketScan | undefined;
  const look = ({ libc }: NativeAccess) => scan ??= scanSockets(libc);

  function read(socket: LiveSocket, isReading: boolean): void {
    if (!isNative(socket)) return isReading ? adapter.start(socket) : adapter.stop(socket);
    if (native !== undefined && !socket.destroyed) {
      setReading(native.libc, look(native), socket.fd, isReading);
    }
  }

  return {
    refresh: () => scan = undefined,
    canMove(socket) {
      if (!isNative(socket)) {
        return !socket.encrypted && socket.readableEncoding === null &&
          adapter.handle(socket) !== undefined;
      }
      socket.server = native?.serverOf(look(native), socket.fd);
      return socket.served !== undefined && socket.server !== undefined;
    },
    stop: (socket) => read(socket, false),
    start: (socket) => read(socket, true),
    take(socket) {
      if (native === undefined) return undefined;
      const taken = takeConnection(native.libc, look(native), socket.fd);
      if (typeof taken !== "number") return undefined;
      socket.served?.terminate();
      socket.emitClose();
      return taken;
    },
  };
}
