/** Connections of node:net that another process takes over, on Node and Deno. */
import type { ConnectionAdapter } from "../../core/socket_adapter.ts";
import type { LiveSocket } from "../../core/live.ts";

/** The handle below a socket: a private member that Node and Deno have. */
interface RawHandle {
  /** Does the socket want to read? */
  readonly reading?: boolean;
  readStart(): void;
  readStop(): void;
}

const handleOf = (socket: LiveSocket) => (socket as { _handle?: RawHandle | null })._handle ?? undefined;

/** Reading is stopped below the socket, which notices nothing. */
export const nodeConnections = (window: number): ConnectionAdapter => ({
  window,
  stop: (socket) => handleOf(socket)?.readStop(),
  start(socket) {
    const handle = handleOf(socket);
    if (handle?.reading !== false) handle?.readStart();
  },
  handle: handleOf,
  async adopt(handle) {
    const { Socket } = await import("node:net");
    // The types do not know this option of the constructor.
    return new Socket({ handle, readable: true, writable: true } as object) as unknown as LiveSocket;
  },
});
