/**
 * WebSockets of the package [ws](https://github.com/websockets/ws) that go on in the next generation, on Node and Deno.
 *
 * @example
 * ```ts
 * import { createServer } from "node:http";
 * import { WebSocket, WebSocketServer } from "ws";
 * import { listen } from "@js0/reload-self";
 * import { liveWebSockets } from "@js0/reload-self/ws";
 *
 * const token = listen();
 * const server = createServer();
 * const sockets = new WebSocketServer({ server });
 * const names = new Map<WebSocket, string>();
 *
 * liveWebSockets<string, WebSocket>(token, "chat", sockets, {
 *   accept(socket, name = "somebody") {
 *     names.set(socket, name);
 *     socket.on("message", (data) => {
 *       for (const other of names.keys()) other.send(`${name}: ${data}`);
 *     });
 *     socket.on("close", () => names.delete(socket));
 *   },
 *   release(socket) {
 *     const name = names.get(socket);
 *     names.delete(socket);
 *     return name;
 *   },
 * });
 * await token.bind(server, { port: 0 });
 * token.cancel();
 * ```
 *
 * @module
 */
import { Duplex } from "node:stream";
import type { LiveSocket, SocketListener } from "./core/live.ts";
import type { Token } from "./core/token.ts";
import { isBetweenMessages, isMovable, retireSocket, type WsSocket } from "./drain/ws_socket.ts";

/** How an application serves WebSockets that move to the next generation. */
export interface LiveWebSocketHandlers<Session, Socket, Request> {
  /**
   * Serves a WebSocket, in any generation. After a reload it gets a new object for the same connection.
   *
   * @param session What `release` returned in the generation before; `undefined` for a new connection.
   * @param request The request of a new connection; `undefined` after a reload.
   */
  accept(socket: Socket, session: Session | undefined, request: Request | undefined): void;
  /**
   * Lets go of a WebSocket, between two messages. The application does not use the object any more; it emits nothing, `close` included.
   *
   * @returns What the next generation needs to go on: a JSON value. `undefined`: not now. Then the WebSocket is served as before and asked
   * for again; one that is still refused at the end of the probation is closed with 1001 (going away).
   */
  release(socket: Socket): Session | undefined;
}

/** A `WebSocketServer` of ws, as far as it is used here. */
export interface WebSocketServerLike {
  /** The options that it was made with. */
  readonly options: object;
  /** Those that are open. */
  readonly clients?: Set<unknown>;
  /** Subscribes to an event. */
  // The listeners differ from event to event.
  // deno-lint-ignore no-explicit-any
  on(event: string, listener: (...args: any[]) => void): unknown;
  /** Completes the handshake of a connection. */
  // The types of ws cannot be had here.
  // deno-lint-ignore no-explicit-any
  handleUpgrade(request: any, socket: any, head: any, callback: (socket: any) => void): void;
}

/** What the next generation must know of a WebSocket, besides what the application says. */
interface Handshake {
  protocol?: string;
  /** The header of the request. */
  offered: string | undefined;
  /** The header of the response. */
  agreed: string | undefined;
}

/** A request with the headers of a handshake. */
interface HandshakeRequest {
  readonly headers: Readonly<Record<string, string | undefined>>;
  readonly socket: LiveSocket;
}

const EXTENSIONS = "sec-websocket-extensions";
const GOING_AWAY = 1001;
const REASON = "the server is being replaced";

/**
 * Serves the WebSockets of a `WebSocketServer` of ws, so that they move to the next generation at a reload: no client has to connect again, and
 * each message arrives once and in order. Those that cannot move are closed with 1001 (going away): all with TLS, those whose compression
 * keeps a context from message to message, and all on Bun, which has another `ws` of its own.
 *
 * @param token The token of `listen()`.
 * @param name The same in every generation, as for `token.live()`.
 * @param server A server of ws for an HTTP server that is bound by `token.bind()`. Do not listen to its event `connection`.
 * @throws {TypeError} When the name is taken or a handler is missing.
 */
// The types of ws cannot be had here: the application names them.
// deno-lint-ignore no-explicit-any
export function liveWebSockets<Session = unknown, Socket = any, Request = any>(
  token: Token,
  name: string,
  server: WebSocketServerLike,
  handlers: LiveWebSocketHandlers<Session, Socket, Request>,
): void {
  /** The WebSockets that are open, by their connections. */
  const open = new Map<LiveSocket, WsSocket>();
  const handshakes = new WeakMap<LiveSocket, Handshake>();
  /** The listeners of a new connection before ws has added its own, and then those of ws. */
  const before = new WeakMap<LiveSocket, Set<SocketListener>>();
  const own = new WeakMap<LiveSocket, SocketListener[]>();
  const requests = new WeakMap<LiveSocket, Request>();

  const listenersOf = (socket: LiveSocket) => socket.eventNames().flatMap((event) => socket.rawListeners(event));

  function add(connection: LiveSocket, socket: WsSocket): void {
    open.set(connection, socket);
    socket.on("close", () => open.delete(connection));
  }

  const live = token.live<{ handshake: Handshake; session: Session }, LiveSocket>(name, {
    accept(connection, moved) {
      const socket = open.get(connection) ?? rebuild(connection, moved?.handshake);
      handlers.accept(socket as Socket, moved?.session, requests.get(connection));
    },
    release(connection) {
      const socket = open.get(connection);
      const handshake = handshakes.get(connection);
      if (socket === undefined || handshake === undefined || !isBetweenMessages(socket)) return undefined;
      const session = handlers.release(socket as Socket);
      if (session === undefined) return undefined;
      letGo(connection, socket);
      return { handshake: { ...handshake, protocol: socket.protocol }, session };
    },
  });

  /** Makes a WebSocket of a connection whose handshake took place in another process. */
  function rebuild(connection: LiveSocket, handshake: Handshake | undefined): WsSocket {
    const { protocol, offered, agreed } = handshake ?? {};
    const client = new Duplex({ read() {}, write: (_chunk, _encoding, done) => done() });
    const headers = {
      upgrade: "websocket",
      "sec-websocket-version": "13",
      "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==", // Any: the response goes nowhere.
      ...(protocol && { "sec-websocket-protocol": protocol }),
      ...(offered !== undefined && { [EXTENSIONS]: offered }),
    };
    // The application has let this client in already, under this subprotocol.
    const options = { ...server.options, path: null, verifyClient: null, handleProtocols: () => protocol };
    const again = Object.create(server, { options: { value: options } }) as WebSocketServerLike;
    let socket: WsSocket | undefined;
    again.handleUpgrade(
      { method: "GET", url: "/", headers, socket: client },
      client,
      new Uint8Array(),
      (made) => socket = made,
    );
    const found = handshakes.get(client as unknown as LiveSocket);
    if (socket === undefined || found?.agreed !== agreed) {
      throw new Error(`this version has agreed on other extensions than ${agreed ?? "none"}`);
    }
    handshakes.set(connection, { offered, agreed });
    socket.setSocket(connection, new Uint8Array(), server.options);
    add(connection, socket);
    return socket;
  }

  /** Takes a connection from its object, which counts as closed from now on. */
  function letGo(connection: LiveSocket, socket: WsSocket): void {
    open.delete(connection);
    server.clients?.delete(socket);
    retireSocket(socket);
    for (const listener of own.get(connection) ?? []) {
      for (const event of ["data", "end", "close", "error"]) connection.removeListener(event, listener);
    }
  }

  server.on("headers", (headers: readonly string[], { headers: { [EXTENSIONS]: offered }, socket }: HandshakeRequest) => {
    const prefix = `${EXTENSIONS}: `;
    const agreed = headers.find((header) => header.toLowerCase().startsWith(prefix))?.slice(prefix.length);
    handshakes.set(socket, { offered, agreed });
    before.set(socket, new Set(listenersOf(socket)));
  });
  server.on("connection", (socket: WsSocket, request: Request) => {
    const connection = socket._socket;
    if (!connection || !handshakes.has(connection) || !isMovable(socket)) {
      token.webSocket(socket);
      return handlers.accept(socket as Socket, undefined, request);
    }
    own.set(connection, listenersOf(connection).filter((listener) => !before.get(connection)?.has(listener)));
    requests.set(connection, request);
    add(connection, socket);
    live.add(connection);
  });
  token.signal.addEventListener("abort", () => {
    for (const socket of open.values()) socket.close(GOING_AWAY, REASON);
  });
}
