/** Connections of node:net that another process takes over, on Bun. */
import type { ConnectionAdapter } from "../../core/socket_adapter.ts";
import type { LiveSocket } from "../../core/live.ts";

/** How many connections may be on their way at once. */
const WINDOW = 32;

/** The socket of Bun's own below a socket of node:net. */
interface RawHandle {
  pause(): void;
  resume(): void;
}

const handleOf = (socket: LiveSocket) => (socket as { _handle?: RawHandle | null })._handle ?? undefined;

/** Bun sends sockets, not what is below them. */
export const bunConnections: ConnectionAdapter = {
  window: WINDOW,
  stop(socket) {
    // The method of the same name on the socket only pauses the stream, which goes on reading up to its limit. And a stream that has
    // delivered a chunk asks for more, which would start the reading again.
    Object.defineProperty(socket, "_read", { value() {}, configurable: true });
    handleOf(socket)?.pause();
  },
  start(socket) {
    delete (socket as { _read?: unknown })._read;
    handleOf(socket)?.resume();
  },
  handle: (socket) => handleOf(socket) && socket,
  adopt: (handle) => Promise.resolve(handle as LiveSocket),
};
