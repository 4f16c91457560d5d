/** WebSockets of the package ws that go on in the next generation. */
import { Duplex } from "node:stream";
import { GOING_AWAY, GOING_AWAY_REASON } from "../../core/going_away.ts";
import type { LiveSocket, SocketListener } from "../../core/live.ts";
import type { Token } from "../../core/token.ts";
import { whenCancelled } from "../../core/when_cancelled.ts";
import {
  isBetweenMessages,
  isMovable,
  retireSocket,
  type WsSocket,
} from "../../drain/ws_socket.ts";

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

/** What the application does with them. */
export interface PackageHandlers<Session, Socket, Request> {
  readonly independent: boolean;
  accept(socket: Socket, session: Session | undefined, request: Request | undefined): void;
  release(socket: Socket, isLate: boolean): Session | undefined;
}

/** What the next generation must know of a WebSocket, besides its session. */
interface Handshake {
  protocol?: string;
  /** The header of the request. */
  offered: string | undefined;
  /** The header of the response. */
  agreed: string | undefined;
}

/** What is known of a connection. */
interface Connection<Request> {
  readonly handshake: Handshake;
  /** What listened to it before ws did. */
  readonly before: ReadonlySet<SocketListener>;
  /** The listeners of ws. */
  own?: readonly SocketListener[];
  /** The request of one that is new in this process. */
  request?: Request;
  webSocket?: WsSocket;
}

/** A request with the headers of a handshake. */
interface HandshakeRequest {
  readonly headers: Readonly<Record<string, string | undefined>>;
  readonly socket: LiveSocket;
}

const EXTENSIONS = "sec-websocket-extensions";

/** The WebSockets of a server. */
interface Group<Request> {
  readonly server: WebSocketServerLike;
  readonly connections: WeakMap<LiveSocket, Connection<Request>>;
  readonly open: Set<WsSocket>;
}

/** Serves the WebSockets of a server of ws. */
export function servePackage<Session, Socket, Request>(
  token: Token,
  name: string,
  server: WebSocketServerLike,
  handlers: PackageHandlers<Session, Socket, Request>,
): void {
  const group: Group<Request> = { server, connections: new WeakMap(), open: new Set() };
  const { connections, open } = group;
  const live = token.live<{ handshake: Handshake; session: Session }, LiveSocket>(name, {
    independent: handlers.independent,
    accept(socket, moved) {
      if (moved !== undefined) {
        return handlers.accept(
          rebuild(group, socket, moved.handshake) as Socket,
          moved.session,
          undefined,
        );
      }
      const { webSocket, request } = connections.get(socket) as Connection<Request>;
      handlers.accept(webSocket as Socket, undefined, request);
    },
    release(socket, isLate) {
      const connection = connections.get(socket);
      const { handshake, webSocket } = connection ?? {};
      if (handshake === undefined || webSocket === undefined || !isBetweenMessages(webSocket)) {
        return undefined;
      }
      const session = handlers.release(webSocket as Socket, isLate);
      if (session === undefined) return undefined;
      letGo(group, socket, connection as Connection<Request>);
      return { handshake: { ...handshake, protocol: webSocket.protocol }, session };
    },
  });
  server.on("headers", (headers: readonly string[], request: HandshakeRequest) => {
    const { socket } = request;
    connections.set(socket, {
      handshake: handshakeOf(headers, request),
      before: listenersOf(socket),
    });
  });
  server.on("connection", (webSocket: WsSocket, request: Request) => {
    const socket = webSocket._socket;
    const connection = socket && connections.get(socket);
    if (!connection || !isMovable(webSocket)) {
      token.webSocket(webSocket);
      return handlers.accept(webSocket as Socket, undefined, request);
    }
    connection.request = request;
    add(group, socket, connection, webSocket);
    live.add(socket);
  });
  whenCancelled(token, () => {
    for (const webSocket of open) webSocket.close(GOING_AWAY, GOING_AWAY_REASON);
  });
}

/** What the client and the server have agreed on. */
function handshakeOf(headers: readonly string[], request: HandshakeRequest): Handshake {
  const prefix = `${EXTENSIONS}: `;
  const agreed = headers.find((header) => header.toLowerCase().startsWith(prefix));
  return { offered: request.headers[EXTENSIONS], agreed: agreed?.slice(prefix.length) };
}

function add<Request>(
  { open }: Group<Request>,
  socket: LiveSocket,
  connection: Connection<Request>,
  webSocket: WsSocket,
): void {
  connection.own = [...listenersOf(socket)].filter((listener) => !connection.before.has(listener));
  connection.webSocket = webSocket;
  open.add(webSocket);
  webSocket.on("close", () => open.delete(webSocket));
}

/** Makes a WebSocket of a connection whose handshake took place in another process. */
function rebuild<Request>(
  group: Group<Request>,
  socket: LiveSocket,
  { protocol, offered, agreed }: Handshake,
): WsSocket {
  const { server, connections } = group;
  const client = new Duplex({ read() {}, write: (_chunk, _encoding, done) => done() });
  const headers = {
    upgrade: "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==", // Any: the response goes nowhere.
    ...(protocol && { "sec-websocket-protocol": protocol }),
    ...(offered !== undefined && { [EXTENSIONS]: offered }),
  };
  // The application has let this client in already, under this subprotocol.
  const options = {
    ...server.options,
    path: null,
    verifyClient: null,
    handleProtocols: () => protocol,
  };
  const again = Object.create(server, { options: { value: options } }) as WebSocketServerLike;
  let webSocket: WsSocket | undefined;
  again.handleUpgrade(
    { method: "GET", url: "/", headers, socket: client },
    client,
    new Uint8Array(),
    (made) => webSocket = made,
  );
  const found = connections.get(client as unknown as LiveSocket);
  if (webSocket === undefined || found?.handshake.agreed !== agreed) {
    throw new Error(`this version has agreed on other extensions than ${agreed ?? "none"}`);
  }
  const connection: Connection<Request> = {
    handshake: { offered, agreed },
    before: listenersOf(socket),
  };
  connections.set(socket, connection);
  webSocket.setSocket(socket, new Uint8Array(), server.options);
  add(group, socket, connection, webSocket);
  return webSocket;
}

/** Takes a connection from its WebSocket, which counts as closed from now on. */
function letGo<Request>(
  { server, connections, open }: Group<Request>,
  socket: LiveSocket,
  { own, webSocket }: Connection<Request>,
): void {
  connections.delete(socket);
  open.delete(webSocket as WsSocket);
  server.clients?.delete(webSocket);
  retireSocket(webSocket as WsSocket);
  for (const listener of own ?? []) {
    for (const event of ["data", "end", "close", "error"]) socket.removeListener(event, listener);
  }
}

/** What listens to a connection. */
function listenersOf(socket: LiveSocket): Set<SocketListener> {
  return new Set(socket.eventNames().flatMap((event) => socket.rawListeners(event)));
}
