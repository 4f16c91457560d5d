/**
 * WebSockets that go on in the next generation: those of `Bun.serve`, of `Deno.upgradeWebSocket`,
 * and of the package [ws](https://github.com/websockets/ws) on Node and Deno.
 *
 * @example Bun and Deno
 * ```ts
 * import { listen } from "@js0/reload-self";
 * import { type LiveWebSocket, liveWebSockets } from "@js0/reload-self/ws";
 *
 * const token = listen();
 * const names = new Map<LiveWebSocket, string>();
 *
 * const chat = liveWebSockets<string>(token, "chat", {
 *   accept(socket, name = "somebody") {
 *     names.set(socket, name);
 *     socket.addEventListener("message", (event) => {
 *       for (const other of names.keys()) other.send(`${name}: ${(event as MessageEvent).data}`);
 *     });
 *     socket.addEventListener("close", () => names.delete(socket));
 *   },
 *   release(socket) {
 *     const name = names.get(socket);
 *     names.delete(socket);
 *     return name;
 *   },
 * });
 * // Bun:  token.adopt(Bun.serve)({ fetch: chat.upgrade, websocket: chat.websocket });
 * // Deno: token.adopt(Deno.serve)(chat.upgrade);
 * // ws:   chat.attach(new WebSocketServer({ server }));
 * token.cancel();
 * ```
 *
 * @module
 */
import { detectWebSockets, hasOwnPackage } from "./adapters/detect_web_sockets.ts";
import { registry } from "./adapters/registry.ts";
import type { LiveWebSocket } from "./adapters/shared/live_web_socket.ts";
import { show } from "./src/core/check.ts";
import { ReloadError } from "./src/core/error.ts";
import type { Token } from "./src/core/token.ts";
import { serveNative } from "./src/connections/web_sockets/native.ts";
import {
  servePackage,
  type WebSocketServerLike,
} from "./src/connections/web_sockets/ws_package.ts";

export type { LiveWebSocket, WebSocketServerLike };

/** How an application serves WebSockets that move to the next generation. */
export interface LiveWebSocketHandlers<Session, Socket = LiveWebSocket, Request = unknown> {
  /**
   * Does each WebSocket move by itself? Then the old process serves it until it moves, and each
   * client waits for milliseconds only. Default: false. All are released before the state is handed
   * over, and accepted before any is read from: what one client sends to all others reaches those
   * that arrive last.
   */
  readonly independent?: boolean;
  /**
   * Serves a WebSocket, in any generation. After a reload it gets a new object for the same
   * connection.
   *
   * @param session What `release` returned in the generation before; `undefined` for a new
   * connection.
   * @param request The request of a new connection; `undefined` after a reload.
   */
  accept(socket: Socket, session: Session | undefined, request: Request | undefined): void;
  /**
   * Lets go of a WebSocket, between two messages. The application does not use the object any more;
   * it emits nothing, `close` included.
   *
   * @param isLate Whether those with which it shares its state have moved before: what one of them
   * sends to all no longer reaches it. Where its client must miss nothing, close it.
   * @returns What the next generation needs to go on: a JSON value. `undefined`: not now. Then the
   * WebSocket is served as before and asked for again; one that is still refused at the end of the
   * probation is closed with 1001 (going away).
   */
  release(socket: Socket, isLate: boolean): Session | undefined;
}

/** The WebSockets of an application, under one name. */
export interface LiveWebSockets {
  /**
   * Completes the handshake of a request to `Bun.serve` or `Deno.serve`, and gives its WebSocket to
   * `accept`. It can be the fetch handler itself. The server has to be opened by `token.adopt()`.
   *
   * @param request The request.
   * @param more What the runtime gives the handler besides: the server on Bun, the information on
   * Deno.
   * @param options `protocol`: the subprotocol that was chosen of those that the client offers.
   * @returns The response. On Bun `undefined`, which its handler has to return, once the handshake
   * is done.
   * @throws {ReloadError} On Node, which has no such server.
   * @throws {TypeError} Without `more`.
   */
  // The handlers of Bun and of Deno have types of their own.
  // deno-lint-ignore no-explicit-any
  readonly upgrade: (request: Request, more: any, options?: { protocol?: string }) => any;
  /** The option `websocket` of `Bun.serve`. */
  // Its type is that of Bun.
  // deno-lint-ignore no-explicit-any
  readonly websocket: any;
  /**
   * Serves those of a `WebSocketServer` of ws, for an HTTP server that is bound by `token.bind()`.
   * Do not listen to its event `connection`.
   */
  attach(server: WebSocketServerLike): void;
}

/**
 * Serves WebSockets so that they move to the next generation at a reload: no client has to connect
 * again, and each message arrives once and in order. Those of `Bun.serve` and `Deno.serve` move on
 * Linux, on Deno with `--allow-ffi`.
 *
 * Closed with 1001 (going away) are those that cannot move: all with TLS, those whose compression
 * keeps a context from message to message, those that are not between two messages until the
 * probation ends, and those of ws on Bun, which has another `ws` of its own.
 *
 * @param token The token of `listen()`.
 * @param name The same in every generation, as for `token.live()`.
 * @param handlers What the application does with them.
 * @throws {TypeError} When the name is taken or a handler is missing.
 *
 * @example
 * ```ts
 * import { listen } from "@js0/reload-self";
 * import { type LiveWebSocket, liveWebSockets } from "@js0/reload-self/ws";
 *
 * const token = listen();
 * const counts = new Map<LiveWebSocket, number>();
 * const counter = liveWebSockets<number>(token, "counter", {
 *   accept(socket, count = 0) {
 *     counts.set(socket, count);
 *     socket.onmessage = () => {
 *       counts.set(socket, ++count);
 *       socket.send(`message ${count}`);
 *     };
 *   },
 *   release: (socket) => counts.get(socket),
 * });
 * token.adopt(Deno.serve)({ port: 8000 }, counter.upgrade);
 * await token.cancelled();
 * ```
 */
export function liveWebSockets<Session = unknown, Socket = LiveWebSocket, Request = unknown>(
  token: Token,
  name: string,
  handlers: LiveWebSocketHandlers<Session, Socket, Request>,
): LiveWebSockets;
/**
 * The same for a server of ws, in one call.
 *
 * @param server A server of ws, as for {@linkcode LiveWebSockets.attach}.
 */
// The types of ws cannot be had here: the application names them.
// deno-lint-ignore no-explicit-any
export function liveWebSockets<Session = unknown, Socket = any, Request = any>(
  token: Token,
  name: string,
  server: WebSocketServerLike,
  handlers: LiveWebSocketHandlers<Session, Socket, Request>,
): LiveWebSockets;
export function liveWebSockets<Session, Socket, Request>(
  token: Token,
  name: string,
  first: WebSocketServerLike | LiveWebSocketHandlers<Session, Socket, Request>,
  second?: LiveWebSocketHandlers<Session, Socket, Request>,
): LiveWebSockets {
  const handlers = second ?? first as LiveWebSocketHandlers<Session, Socket, Request>;
  for (const method of ["accept", "release"] as const) {
    if (typeof handlers?.[method] !== "function") {
      throw new TypeError(
        `liveWebSockets: ${method} must be a function, not ${show(handlers?.[method])}`,
      );
    }
  }
  const checked = {
    independent: handlers.independent === true,
    accept: (socket: Socket, session: Session | undefined, request: Request | undefined) =>
      handlers.accept(socket, session, request),
    release: (socket: Socket, isLate: boolean) => handlers.release(socket, isLate),
  };
  // Those that the runtime serves are a group from the beginning: in a successor they come before
  // the first request.
  const adapter = second === undefined ? detectWebSockets() : undefined;
  // Socket is LiveWebSocket here.
  // deno-lint-ignore no-explicit-any
  const native = adapter && serveNative<Session>(token, name, adapter, checked as any);
  const attach = (server: WebSocketServerLike) => {
    if (hasOwnPackage()) registry.listening?.inside.warn?.(explainPackage(name));
    servePackage(token, native === undefined ? name : `${name} (ws)`, server, checked);
  };

  if (second !== undefined) attach(first as WebSocketServerLike);
  return {
    upgrade(request: globalThis.Request, more: unknown, { protocol }: { protocol?: string } = {}) {
      if (native === undefined) {
        throw new ReloadError(
          "unsupported",
          "liveWebSockets: upgrade() is for Bun.serve and Deno.serve; use attach() with a server of ws",
        );
      }
      if (typeof more !== "object" || more === null) {
        throw new TypeError(
          "liveWebSockets: upgrade() needs the second argument of the handler: " +
            "`(request, more) => chat.upgrade(request, more)`",
        );
      }
      return native.upgrade(request, more, protocol);
    },
    websocket: adapter?.sockets.handlers,
    attach,
  };
}

function explainPackage(name: string): string {
  return `liveWebSockets ${name}: those of ws do not move on Bun, which has a ws of its own: a reload closes them with 1001. ` +
    "Those of Bun.serve move: use `upgrade` and `websocket` of what liveWebSockets() returns";
}
