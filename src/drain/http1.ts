/**
 * Finishing the connections of one server without losing a request: RFC 9112, section 9.6.
 */
import type { Clock } from "../core/adapter.ts";
import { earlyEvents, isUnaware } from "../core/marks.ts";
import { STOPPED_MS } from "../core/pause.ts";
import type { Http1View } from "../core/socket_adapter.ts";
import type { BindableServer } from "../core/token.ts";
import { followWebSocket, type RawSocket, sendGoingAway } from "./web_sockets.ts";
import { type HttpSocket, nodeHttp1 } from "./keep_alive.ts";
import { createSessions, FIRST_REQUEST_MS, type Session } from "./http2.ts";

/** The part of a socket of node:net or node:tls that is used here. */
interface Connection extends HttpSocket {
  readonly remoteAddress?: string;
  readonly remotePort?: number;
  readonly alpnProtocol?: string | false | null;
}

/** A response of node:http. */
interface Response {
  readonly headersSent: boolean;
  readonly req: { readonly httpVersionMajor: number; readonly complete: boolean };
  setHeader(name: string, value: string): unknown;
  writeHead(...args: unknown[]): unknown;
}

/** What is known of a connection. */
interface State {
  /** What marks a connection that has had no request; with TLS there were the bytes of the handshake. */
  base: unknown;
  /** Whether it is not HTTP. Then the application has to end it. */
  opaque: boolean;
  /** What marked it at the last check, and the time of the last change. */
  mark: unknown;
  since: number;
  /** Whether the last check found it idle for long enough. */
  due: boolean;
  ending: boolean;
}

/** How a server is drained; times in milliseconds. */
export interface DrainSettings {
  /** How long an idle connection is left open for one more request. */
  idleGrace: number;
  /** When the remaining connections are cut. */
  timeout: number;
}

/** The connections of one server. */
export interface Drain {
  /** Those of HTTP/1 without TLS, which another process could go on with. */
  plain(): HttpSocket[];
  /** Finishes them all. Resolves with the number of those that had to be cut. */
  finish(settings: DrainSettings): Promise<number>;
}

/** How long a client may take to close its side. */
const CLOSE_TIMEOUT_MS = 5_000;
/** Milliseconds between two checks of the connections. */
const CHECK_MS = 50;

/** Follows the connections of a server from now on. It costs nothing per request. */
export function createDrain(
  server: BindableServer,
  clock: Clock,
  http2CloseTruncates: boolean,
  viewOf: (connection: HttpSocket) => Http1View | undefined = () => undefined,
): Drain {
  const connections = new Map<Connection, State>();
  const sessions = createSessions(clock, http2CloseTruncates, () => draining && check());
  const upgraded = new WeakSet<object>();
  const rawWebSockets = new Set<RawSocket>();
  const handshaking = new Map<string, Connection>();
  const isHttp2 = "updateSettings" in server;
  const isHttp = isHttp2 || "keepAliveTimeout" in server;
  const isTls = "setSecureContext" in server;
  const view = (connection: Connection) => viewOf(connection) ?? nodeHttp1;
  let draining = false;
  let check = () => {};

  function add(connection: Connection, opaque: boolean): void {
    const mark = view(connection).mark(connection);
    connections.set(connection, { opaque, base: mark, mark, since: clock.now(), due: false, ending: false });
    connection.once("close", () => {
      connections.delete(connection);
      if (draining) check();
    });
  }

  /** Names a connection: TLS has a second socket for it. */
  const peer = ({ remoteAddress, remotePort }: Connection) => remotePort && `${remoteAddress} ${remotePort}`;

  const follow: Record<string, (first: Connection & Session) => void> = {
    connection(connection) {
      if (connections.has(connection) || connection.destroyed) return;
      const name = isTls && peer(connection);
      if (name) {
        handshaking.set(name, connection);
        connection.once("close", () => handshaking.delete(name));
      }
      add(connection, !isHttp);
    },
    secureConnection(connection) {
      if (connection.destroyed) return;
      const raw = handshaking.get(peer(connection) || "");
      if (raw !== undefined) connections.delete(raw);
      add(connection, !isHttp);
    },
    session: (session) => session.destroyed || sessions.add(session),
  };
  // In front of the application's: the listeners that it removes from a live connection are its own.
  for (const event in follow) {
    if (event === "connection") server.prependListener(event, follow[event] as () => void);
    else server.on(event, follow[event] as () => void);
  }
  for (const [event, first] of earlyEvents(server)) follow[event]?.(first as Connection & Session);
  // Only where the application has such a listener: a single listener of ours would change the behaviour of the server.
  const leave = (request: { headers?: { upgrade?: string } }, connection: Connection & RawSocket) => {
    upgraded.add(connection);
    if (/^websocket$/i.test(request.headers?.upgrade ?? "") && isUnaware(server)) followWebSocket(connection, rawWebSockets);
  };
  for (const event of ["upgrade", "connect"]) if (server.listenerCount(event) > 0) server.prependListener(event, leave);
  server.on("newListener", (event: string, listener: unknown) => {
    if ((event === "upgrade" || event === "connect") && listener !== leave && server.listenerCount(event) === 0) {
      server.prependListener(event, leave);
    }
  });

  /**
   * Adds `Connection: close`, unless the answer begins before the body of the request has come: the server closes after it, the kernel resets
   * a connection that is closed with unread bytes, and the client may lose the answer with them; RFC 9112, section 9.6. Such a connection is
   * closed when it is idle, or after its next answer.
   */
  function askToClose(response: Response): void {
    const ask = () => response.req.complete && !response.headersSent && response.setHeader("Connection", "close");
    if (response.req.complete) return void ask();
    const { writeHead } = response; // All ways to send the head come here.
    response.writeHead = (...args) => {
      ask();
      return writeHead.apply(response, args);
    };
  }

  /**
   * Adds `Connection: close` to all responses. Of pipelined requests only the last response may have it, because the server closes after it:
   * requests are therefore held until the chunk that they came in is parsed, which is over when the microtasks run. A listener cannot hold
   * them, so `emit` is replaced.
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

  /** Ends a connection that has been idle for long enough. */
  function endIfIdle(connection: Connection, state: State, idleGrace: number): void {
    if (state.opaque || state.ending || upgraded.has(connection)) return;
    // The connections of HTTP/2 end with their sessions; a server with TLS may have others as well.
    if (isHttp2 && (connection.alpnProtocol === "h2" || connection.alpnProtocol === undefined)) return;
    const now = clock.now();
    const mark = view(connection).mark(connection);
    if (!view(connection).isIdle(connection) || mark !== state.mark) {
      state.mark = mark;
      state.since = now;
      state.due = false;
      return;
    }
    const isFresh = state.mark === state.base;
    if (now - state.since < (isFresh ? Math.max(FIRST_REQUEST_MS, idleGrace) : idleGrace)) return;
    // A late timer runs before the reads that wait: the next check knows what they brought.
    if (!state.due) return void (state.due = true);
    if (!view(connection).end(connection)) {
      state.since = now;
      return;
    }
    state.ending = true;
    const stop = clock.timer(CLOSE_TIMEOUT_MS, () => connection.destroy());
    connection.once("close", stop);
  }

  return {
    plain() {
      if (!isHttp || isHttp2 || isTls) return [];
      // On Bun the server itself does not show that it has TLS.
      return [...connections.keys()].filter((connection) => !connection.encrypted && !upgraded.has(connection));
    },
    finish({ idleGrace, timeout }) {
      draining = true;
      sessions.finish(idleGrace);
      const begun = clock.now();
      const done = Promise.withResolvers<number>();
      let stopTimer = () => {};
      let looked = begun;

      if (isHttp) askAllToClose();
      for (const socket of rawWebSockets) sendGoingAway(socket);
      for (const [connection, state] of connections) {
        // An idle connection counts as idle from now on; one without any request since it was made.
        state.mark = view(connection).mark(connection);
        if (state.mark !== state.base) state.since = begun;
      }

      check = () => {
        stopTimer();
        const elapsed = clock.now() - begun;
        if (elapsed >= timeout) {
          const cut = Math.max(connections.size, sessions.size);
          sessions.cut();
          for (const connection of connections.keys()) connection.destroy();
          check = () => {};
          done.resolve(cut);
          return;
        }
        // A process that was stopped has not read what came meanwhile.
        const now = clock.now();
        if (now - looked > STOPPED_MS) {
          for (const state of connections.values()) Object.assign(state, { since: now, due: false });
        }
        looked = now;
        sessions.check();
        for (const [connection, state] of connections) endIfIdle(connection, state, idleGrace);
        if (connections.size === 0 && sessions.size === 0) {
          check = () => {};
          done.resolve(0);
          return;
        }
        stopTimer = clock.timer(Math.max(1, Math.min(CHECK_MS, timeout - elapsed)), check);
      };
      check();
      return done.promise;
    },
  };
}
