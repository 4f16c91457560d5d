/** Connections of node:net that another process takes over, on Node and Deno. */
import type { ConnectionAdapter } from "../../src/core/socket_adapter.ts";
import type { LiveSocket } from "../../src/core/live.ts";
import type { BindableServer } from "../../src/core/token.ts";

/** The handle below a socket: a private member that Node and Deno have. */
interface RawHandle {
  /** Whether the socket wants to read. */
  readonly reading?: boolean;
  readStart(): void;
  readStop(): void;
}

const handleOf = (socket: LiveSocket) =>
  (socket as { _handle?: RawHandle | null })._handle ?? undefined;

/**
 * Gives a server a connection that it counts: `getConnections`, `maxConnections`, and the end of
 * `close` ask for that number.
 */
export function emitCounted(server: BindableServer, socket: LiveSocket): void {
  const counted = server as BindableServer & { _connections?: number };
  counted._connections = (counted._connections ?? 0) + 1;
  // The socket counts itself down when it is closed.
  (socket as { _server?: unknown })._server = server;
  server.emit("connection", socket);
}

/** The parser of node:http, and the numbers of its callbacks. */
interface Parser {
  readonly constructor: {
    readonly kOnHeadersComplete: number;
    readonly kOnMessageComplete: number;
  };
  execute(bytes: Uint8Array): unknown;
  [callback: number]: unknown;
}

const REQUEST = new TextEncoder().encode("GET / HTTP/1.1\r\n\r\n");

/**
 * Has a parser of Node's read a request that nobody hears of: the connection is an idle one then.
 * Before its first request a connection has only `headersTimeout`, and is answered with 408 after
 * that. That time is kept in node_http_parser.cc, and ends with a whole request only.
 */
export function markIdleOnNode(_: BindableServer, socket: LiveSocket): void {
  const { parser } = socket as { parser?: Parser | null };
  if (!parser) return;
  const { kOnHeadersComplete, kOnMessageComplete } = parser.constructor;
  const callbacks = [kOnHeadersComplete, kOnMessageComplete].map((number) =>
    [number, parser[number]] as const
  );
  for (const [number] of callbacks) parser[number] = undefined;
  parser.execute(REQUEST);
  for (const [number, callback] of callbacks) parser[number] = callback;
}

/** Reading is stopped below the socket, which notices nothing. */
export const nodeConnections = (
  window: number,
  markIdle: (server: BindableServer, socket: LiveSocket) => void,
): ConnectionAdapter => ({
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
    return new Socket(
      { handle, readable: true, writable: true } as object,
    ) as unknown as LiveSocket;
  },
  serveIdle(server, socket, unlimited) {
    emitCounted(server, socket);
    markIdle(server, socket);
    unlimited(socket);
  },
});
