/** Connections of node:net that another process takes over, on Bun. */
import type { ConnectionAdapter } from "../../core/socket_adapter.ts";
import type { LiveSocket } from "../../core/live.ts";
import { emitCounted } from "../node/connections.ts";

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
    const handle = handleOf(socket);
    if (handle === undefined) return;
    handle.pause();
    // The stream above it reads again by itself: after a chunk, and when the server has told the application of the connection. The method
    // of the socket only pauses that stream, which goes on reading up to its limit.
    handle.resume = () => {};
  },
  start(socket) {
    const handle = handleOf(socket);
    if (handle === undefined) return;
    delete (handle as Partial<RawHandle>).resume;
    handle.resume();
  },
  handle: (socket) => handleOf(socket) && socket,
  adopt: (handle) => Promise.resolve(handle as LiveSocket),
  serveIdle: emitCounted, // Bun 1.4 gives the first request of such a connection no other time than those that follow.
};
