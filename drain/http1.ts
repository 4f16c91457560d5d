/**
 * Finishing the connections of one server without losing a request: RFC 9112, section 9.6.
 */
import type { Clock } from "../core/adapter.ts";
import type { BindableServer } from "../core/token.ts";
import { createSessions, FRESH, type Session } from "./http2.ts";

/** A socket of node:net or node:tls, as far as it matters here. */
interface Connection {
  readonly bytesRead: number;
  readonly remoteAddress?: string;
  readonly remotePort?: number;
  /**
   * The response that is being sent. It is node's own, and all three runtimes have it: what a listener to requests would cost
   * is too much for a server that drains once in its life.
   */
  readonly _httpMessage?: object | null;
  readonly alpnProtocol?: string | false | null;
  once(event: "close", listener: () => void): unknown;
  end(): unknown;
  destroy(): unknown;
}

/** A response of node:http. */
interface Response {
  readonly headersSent: boolean;
  readonly req: { readonly httpVersionMajor: number };
  setHeader(name: string, value: string): unknown;
}

/** What is known about one connection. */
interface State {
  /** Bytes that had come before its first request: those of the TLS handshake. */
  base: number;
  /** Is it no HTTP any more, or was it never? Then it is the application's to end. */
  opaque: boolean;
  /** Bytes that had come when it was last looked at, and when they had changed. */
  bytes: number;
  since: number;
  ending: boolean;
}

/** How a server is drained; times in milliseconds. */
export interface DrainSettings {
  /** How long an idle connection is left open for one more request. */
  settle: number;
  /** When whatever is left is ended. */
  timeout: number;
}

/** The connections of one server. */
export interface Drain {
  /** Finishes them all. Resolves with the number of those that had to be cut. */
  finish(settings: DrainSettings): Promise<number>;
}

/** How long a client may take to close its side. */
const CLOSING = 5_000;
/** How often the connections are looked at. */
const LOOK = 50;

/** Follows the connections of a server from now on. It costs nothing per request. */
export function createDrain(server: BindableServer, clock: Clock, cutsAnswers: boolean): Drain {
  const connections = new Map<Connection, State>();
  const sessions = createSessions(clock, cutsAnswers, () => draining && look());
  const upgraded = new WeakSet<object>();
  const handshaking = new Map<string, Connection>();
  const isHttp2 = "updateSettings" in server;
  const isHttp = isHttp2 || "keepAliveTimeout" in server;
  const isTls = "setSecureContext" in server;
  let draining = false;
  let look = () => {};

  function add(connection: Connection, opaque: boolean): void {
    const { bytesRead } = connection;
    connections.set(connection, { opaque, base: bytesRead, bytes: bytesRead, since: clock.now(), ending: false });
    connection.once("close", () => {
      connections.delete(connection);
      if (draining) look();
    });
  }

  /** TLS gives a second socket for the same connection. */
  const peer = ({ remoteAddress, remotePort }: Connection) => remotePort && `${remoteAddress} ${remotePort}`;

  server.on("connection", (connection: Connection) => {
    if (connections.has(connection)) return;
    const name = isTls && peer(connection);
    if (name) {
      handshaking.set(name, connection);
      connection.once("close", () => handshaking.delete(name));
    }
    add(connection, !isHttp);
  });
  server.on("secureConnection", (connection: Connection) => {
    const raw = handshaking.get(peer(connection) || "");
    if (raw !== undefined) connections.delete(raw);
    add(connection, !isHttp);
  });
  server.on("session", (session: Session) => sessions.add(session));
  // Only where the application has such a listener: one of ours alone would change what the server does.
  const leave = (_: unknown, connection: object) => void upgraded.add(connection);
  for (const event of ["upgrade", "connect"]) if (server.listenerCount(event) > 0) server.prependListener(event, leave);
  server.on("newListener", (event: string, listener: unknown) => {
    if ((event === "upgrade" || event === "connect") && listener !== leave && server.listenerCount(event) === 0) {
      server.prependListener(event, leave);
    }
  });

  function askToClose(response: Response): void {
    if (!response.headersSent) response.setHeader("Connection", "close");
  }

  /**
   * Lets the answers carry `Connection: close`. Of pipelined requests only the last may: the server closes after it. They are
   * therefore held until the chunk they came in is parsed, which is over when the microtasks run.
   */
  function askAllToClose(): void {
    const emit = server.emit;
    let held: [request: { socket: object }, response: Response][] = [];
    server.emit = function (event: string, ...args: unknown[]): boolean {
      if (event !== "request" || (args[1] as Response).req.httpVersionMajor >= 2) return emit.call(server, event, ...args);
      if (held.length === 0) queueMicrotask(release);
      held.push(args as [{ socket: object }, Response]);
      return true;
    };
    function release(): void {
      const requests = held;
      held = [];
      const last = new Map(requests.map(([{ socket }, response]) => [socket, response]));
      for (const response of last.values()) askToClose(response);
      for (const [request, response] of requests) emit.call(server, "request", request, response);
    }
  }

  /** Ends a connection on which nothing is under way and on which nothing has come for long enough. */
  function endIfIdle(connection: Connection, state: State, settle: number): void {
    if (state.opaque || state.ending || upgraded.has(connection)) return;
    // The connections of HTTP/2 end with their sessions; on a server with TLS there may be others.
    if (isHttp2 && (connection.alpnProtocol === "h2" || connection.alpnProtocol === undefined)) return;
    const now = clock.now();
    if (connection._httpMessage || connection.bytesRead !== state.bytes) {
      state.bytes = connection.bytesRead;
      state.since = now;
      return;
    }
    const isFresh = state.bytes === state.base;
    if (now - state.since < (isFresh ? Math.max(FRESH, settle) : settle)) return;
    state.ending = true;
    connection.end();
    const stop = clock.timer(CLOSING, () => connection.destroy());
    connection.once("close", stop);
  }

  return {
    finish({ settle, timeout }) {
      draining = true;
      sessions.finish(settle);
      const begun = clock.now();
      const done = Promise.withResolvers<number>();
      let stopTimer = () => {};

      if (isHttp) askAllToClose();
      for (const [connection, state] of connections) {
        // Idle from now on, as far as anybody who waits is concerned; fresh since it is there.
        if (connection.bytesRead !== state.base) state.since = begun;
        state.bytes = connection.bytesRead;
      }

      look = () => {
        stopTimer();
        const elapsed = clock.now() - begun;
        if (elapsed >= timeout) {
          const cut = Math.max(connections.size, sessions.size);
          sessions.cut();
          for (const connection of connections.keys()) connection.destroy();
          look = () => {};
          done.resolve(cut);
          return;
        }
        sessions.look();
        for (const [connection, state] of connections) endIfIdle(connection, state, settle);
        if (connections.size === 0 && sessions.size === 0) {
          look = () => {};
          done.resolve(0);
          return;
        }
        stopTimer = clock.timer(Math.max(1, Math.min(LOOK, timeout - elapsed)), look);
      };
      look();
      return done.promise;
    },
  };
}
