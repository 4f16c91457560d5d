/**
 * Finishing the connections of one server without losing a request: RFC 9112, section 9.6.
 */
import type { Clock } from "../core/adapter.ts";
import { earlyEvents, isUnaware } from "../core/marks.ts";
import { STOPPED_MS } from "../core/pause.ts";
import type { Http1View, SocketAdapter } from "../core/socket_adapter.ts";
import type { BindableServer } from "../core/token.ts";
import { createRawWebSockets, type RawSocket } from "./web_sockets.ts";
import { type HttpSocket, nodeHttp1 } from "./keep_alive.ts";
import { createSessions, FIRST_REQUEST_MS, type Session, type Sessions } from "./http2.ts";

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

/** A request for another protocol. */
interface UpgradeRequest {
  readonly headers?: { readonly upgrade?: string };
}

/** What is known of a connection. */
interface State {
  /**
   * What marks a connection that has had no request; with TLS there were the bytes of the
   * handshake.
   */
  base: unknown;
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
  /** How many connections the server has accepted. */
  readonly accepted: number;
  /** Finishes them all. Resolves with the number of those that had to be cut. */
  finish(settings: DrainSettings): Promise<number>;
}

/** How long a client may take to close its side. */
const CLOSE_TIMEOUT_MS = 5_000;
/** Milliseconds between two checks of the connections. */
const CHECK_MS = 50;

/**
 * Adds `Connection: close`, unless the answer begins before the body of the request has come: the
 * server closes after it, the kernel resets a connection that is closed with unread bytes, and the
 * client may lose the answer with them; RFC 9112, section 9.6. Such a connection is closed when it
 * is idle, or after its next answer.
 */
function askToClose(response: Response): void {
  const ask = () =>
    response.req.complete && !response.headersSent && response.setHeader("Connection", "close");
  if (response.req.complete) return void ask();
  const { writeHead } = response; // All ways to send the head come here.
  response.writeHead = (...args) => {
    ask();
    return writeHead.apply(response, args);
  };
}

/**
 * Adds `Connection: close` to all responses. Of pipelined requests only the last response may have
 * it, because the server closes after it: requests are therefore held until the chunk that they
 * came in is parsed, which is over when the microtasks run. A listener cannot hold them, so `emit`
 * is replaced.
 */
function askAllToClose(server: BindableServer): void {
  const emit = server.emit;
  let held: [request: { socket: object }, response: Response][] = [];
  server.emit = function (event: string, ...args: unknown[]): boolean {
    if (event !== "request" || (args[1] as Response).req.httpVersionMajor >= 2) {
      return emit.call(server, event, ...args);
    }
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

/** Names a connection: TLS has a second socket for it. */
const peerOf = ({ remoteAddress, remotePort }: Connection) =>
  remotePort && `${remoteAddress} ${remotePort}`;

/** A drain that is under way. */
interface Finishing extends DrainSettings {
  readonly begun: number;
  readonly done: PromiseWithResolvers<number>;
  /** When the connections were looked at last. */
  looked: number;
  stopTimer(): void;
}

/** As {@linkcode SocketAdapter.http1}. */
type ViewOf = SocketAdapter["http1"];

class ServerDrain implements Drain {
  readonly #server: BindableServer;
  readonly #clock: Clock;
  readonly #viewOf: ViewOf;
  readonly #connections = new Map<Connection, State>();
  readonly #sessions: Sessions;
  /** Those that speak another protocol by now. */
  readonly #upgraded = new WeakSet<object>();
  readonly #rawWebSockets = createRawWebSockets();
  readonly #handshaking = new Map<string, Connection>();
  readonly #isHttp2: boolean;
  readonly #isHttp: boolean;
  readonly #isTls: boolean;
  accepted = 0;
  #finishing: Finishing | undefined;

  constructor(server: BindableServer, clock: Clock, viewOf: ViewOf) {
    this.#server = server;
    this.#clock = clock;
    this.#viewOf = viewOf;
    this.#sessions = createSessions(clock, () => this.#check());
    this.#isHttp2 = "updateSettings" in server;
    this.#isHttp = this.#isHttp2 || "keepAliveTimeout" in server;
    this.#isTls = "setSecureContext" in server;
    this.#follow();
    this.#followUpgrades();
  }

  #view(connection: Connection): Http1View {
    return this.#viewOf?.(connection) ?? nodeHttp1;
  }

  #follow(): void {
    const follow: Record<string, (first: Connection & Session) => void> = {
      connection: (connection) => this.#connected(connection),
      secureConnection: (connection) => this.#secured(connection),
      session: (session) => session.destroyed || this.#sessions.add(session),
    };
    // In front of the application's: the listeners that it removes from a live connection are its
    // own.
    for (const event in follow) {
      if (event === "connection") this.#server.prependListener(event, follow[event] as () => void);
      else this.#server.on(event, follow[event] as () => void);
    }
    for (const [event, first, socket, written = 0] of earlyEvents(this.#server)) {
      if (event in follow) follow[event]?.(first as Connection & Session);
      else this.#upgrade(first as UpgradeRequest, socket as Connection & RawSocket, written);
    }
  }

  #connected(connection: Connection): void {
    this.accepted++;
    if (this.#connections.has(connection) || connection.destroyed) return;
    const name = this.#isTls && peerOf(connection);
    if (name) {
      this.#handshaking.set(name, connection);
      connection.once("close", () => this.#handshaking.delete(name));
    }
    this.#add(connection);
  }

  #secured(connection: Connection): void {
    if (connection.destroyed) return;
    const raw = this.#handshaking.get(peerOf(connection) || "");
    if (raw !== undefined) this.#connections.delete(raw);
    this.#add(connection);
  }

  #add(connection: Connection): void {
    const mark = this.#view(connection).mark(connection);
    this.#connections.set(connection, {
      base: mark,
      mark,
      since: this.#clock.now(),
      due: false,
      ending: false,
    });
    connection.once("close", () => {
      this.#connections.delete(connection);
      this.#check();
    });
  }

  /**
   * Only where the application has such a listener: a single listener of ours would change the
   * behaviour of the server.
   */
  #followUpgrades(): void {
    const server = this.#server;
    const leave = (request: UpgradeRequest, connection: Connection & RawSocket) =>
      this.#upgrade(request, connection, connection.bytesWritten);
    const events = ["upgrade", "connect"];
    for (const event of events) {
      if (server.listenerCount(event) > 0) server.prependListener(event, leave);
    }
    server.on("newListener", (event: string, listener: unknown) => {
      if (events.includes(event) && listener !== leave && server.listenerCount(event) === 0) {
        server.prependListener(event, leave);
      }
    });
  }

  /** @param written What had been written before, in bytes. */
  #upgrade({ headers }: UpgradeRequest, connection: Connection & RawSocket, written: number): void {
    this.#upgraded.add(connection);
    const isWebSocket = /^websocket$/i.test(headers?.upgrade ?? "");
    if (isWebSocket && isUnaware(this.#server)) this.#rawWebSockets.add(connection, written);
  }

  plain(): HttpSocket[] {
    if (!this.#isHttp || this.#isHttp2 || this.#isTls) return [];
    // On Bun the server itself does not show that it has TLS.
    return [...this.#connections.keys()].filter((connection) =>
      !connection.encrypted && !this.#upgraded.has(connection)
    );
  }

  finish(settings: DrainSettings): Promise<number> {
    const begun = this.#clock.now();
    const done = Promise.withResolvers<number>();
    this.#sessions.finish(settings.idleGrace);
    if (this.#isHttp) askAllToClose(this.#server);
    for (const [connection, state] of this.#connections) {
      // An idle connection counts as idle from now on; one without any request since it was made.
      state.mark = this.#view(connection).mark(connection);
      if (state.mark !== state.base) state.since = begun;
    }
    this.#finishing = { ...settings, begun, done, looked: begun, stopTimer() {} };
    this.#check();
    return done.promise;
  }

  /** Looks at all connections, once the drain has begun. */
  #check(): void {
    const finishing = this.#finishing;
    if (finishing === undefined) return;
    const { begun, timeout, idleGrace } = finishing;
    finishing.stopTimer();
    const now = this.#clock.now();
    if (now - begun >= timeout) return this.#cut(finishing);
    // A process that was stopped has not read what came meanwhile.
    if (now - finishing.looked > STOPPED_MS) {
      for (const state of this.#connections.values()) {
        Object.assign(state, { since: now, due: false });
      }
    }
    finishing.looked = now;
    this.#sessions.check();
    this.#rawWebSockets.sendAway();
    for (const [connection, state] of this.#connections) {
      this.#endIfIdle(connection, state, idleGrace);
    }
    if (this.#connections.size === 0 && this.#sessions.size === 0) {
      this.#finishing = undefined;
      return finishing.done.resolve(0);
    }
    finishing.stopTimer = this.#clock.timer(
      Math.max(1, Math.min(CHECK_MS, begun + timeout - now)),
      () => this.#check(),
    );
  }

  #cut({ done }: Finishing): void {
    this.#finishing = undefined;
    const count = Math.max(this.#connections.size, this.#sessions.size);
    this.#sessions.cut();
    for (const connection of this.#connections.keys()) connection.destroy();
    done.resolve(count);
  }

  /**
   * Ends a connection that has been idle for long enough. One that is not of HTTP is the
   * application's to end.
   */
  #endIfIdle(connection: Connection, state: State, idleGrace: number): void {
    if (!this.#isHttp || state.ending || this.#upgraded.has(connection)) return;
    // The connections of HTTP/2 end with their sessions; a server with TLS may have others as well.
    if (
      this.#isHttp2 && (connection.alpnProtocol === "h2" || connection.alpnProtocol === undefined)
    ) return;
    const now = this.#clock.now();
    const view = this.#view(connection);
    const mark = view.mark(connection);
    if (!view.isIdle(connection) || mark !== state.mark) {
      return void Object.assign(state, { mark, since: now, due: false });
    }
    const isFresh = state.mark === state.base;
    if (now - state.since < (isFresh ? Math.max(FIRST_REQUEST_MS, idleGrace) : idleGrace)) return;
    // A late timer runs before the reads that wait: the next check knows what they brought.
    if (!state.due) return void (state.due = true);
    if (!view.end(connection)) return void (state.since = now);
    state.ending = true;
    const stop = this.#clock.timer(CLOSE_TIMEOUT_MS, () => connection.destroy());
    connection.once("close", stop);
  }
}

/** Follows the connections of a server from now on. It costs nothing per request. */
export function createDrain(
  server: BindableServer,
  clock: Clock,
  viewOf?: ViewOf,
): Drain {
  return new ServerDrain(server, clock, viewOf);
}
