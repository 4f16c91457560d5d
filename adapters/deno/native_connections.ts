/** The connections of Deno.serve, which another process can serve. */
import { GOING_AWAY, GOING_AWAY_REASON } from "../../src/core/going_away.ts";
import type { NativeConnections } from "../../src/core/native.ts";
import type { DenoNamespace } from "./namespace.ts";
import type { SocketAddress } from "../../src/core/socket_adapter.ts";
import type { FetchHandler } from "../../src/core/token.ts";
import { closeWebSocket } from "./web_sockets.ts";

/** How often it is looked whether a client has read what was sent to it, in milliseconds. */
const SENT_CHECK_MS = 50;

/** What Deno gives a handler besides the request. */
interface Info {
  readonly remoteAddr: Address;
  readonly completed: Promise<void>;
}

/** The address of a client, as Deno has it. */
interface Address {
  readonly transport: string;
  readonly hostname: string;
  readonly port: number;
}

/** The states of a WebSocket before it is closed. */
const CONNECTING = 0;
const OPEN = 1;
/** One request of so many is looked at, while nothing moves: it takes a microsecond or two. */
const SAMPLE = 32;
/** How many are looked at before that: a server with few requests knows all. */
const FIRST = 64;

type Clients = ReadonlyMap<string, Address>;

const keyOf = (host: string, port: number) => `${host} ${port}`;

/** Deno remembers the address of the connection that it has accepted. */
function clientOf({ remoteAddr }: Info, clients: Clients): Address {
  return clients.size > 0 && clients.get(keyOf(remoteAddr.hostname, remoteAddr.port)) || remoteAddr;
}

/** Its members are read when they are asked for: most handlers do not ask. */
class MovedInfo implements Info {
  readonly #info: Info;
  readonly #clients: Clients;

  constructor(info: Info, clients: Clients) {
    this.#info = info;
    this.#clients = clients;
  }

  get remoteAddr(): Address {
    return clientOf(this.#info, this.#clients);
  }

  get completed(): Promise<void> {
    return this.#info.completed;
  }
}

/**
 * Names a unix socket as its clients do: Deno calls the address of each the path under which the
 * server has made the socket, which is a private one.
 */
export function naming(handler: FetchHandler, path: string): FetchHandler {
  function named(this: unknown, request: Request, info: Info) {
    const own = {
      remoteAddr: { ...info.remoteAddr, path },
      get completed() {
        return info.completed;
      },
    };
    return handler.call(this, request, own);
  }
  return handler.length < 2 ? handler : named as FetchHandler;
}

/** Closes a WebSocket as soon as it is open: Deno 2.9 does nothing when it is asked earlier. */
function sendAway(socket: WebSocket): void {
  if (socket.readyState === OPEN) closeWebSocket(socket, GOING_AWAY, GOING_AWAY_REASON);
  else if (socket.readyState === CONNECTING) {
    socket.addEventListener("open", () => sendAway(socket));
  }
}

type Running = () => Iterable<{ readonly request?: unknown; readonly more?: unknown }>;

/**
 * Hears of each call of Deno.upgradeWebSocket before it: afterwards Deno does not say any more who
 * the client is. Returns what is called with the WebSocket.
 */
type Hear = (request: unknown) => ((socket: WebSocket) => void) | undefined;
const listeners = new Set<Hear>();
let isHearing = false;

function hearOfUpgrades(deno: DenoNamespace, hear: Hear): void {
  listeners.add(hear);
  if (isHearing) return;
  isHearing = true;
  const { upgradeWebSocket } = deno;
  deno.upgradeWebSocket = (request, ...rest) => {
    const made = [...listeners].map((hear) => hear(request));
    const upgrade = upgradeWebSocket.call(deno, request, ...rest);
    for (const one of made) one?.(upgrade.socket);
    return upgrade;
  };
}

/** Follows the connections of one server. */
export class FollowedConnections implements NativeConnections {
  readonly #deno: DenoNamespace;
  readonly #running: Running;
  /** The WebSockets that are open. */
  readonly openWebSockets: Set<WebSocket> = new Set();
  #isGoing = false;
  /** The ports of clients that have WebSockets. */
  readonly #webSockets = new Set<number>();
  /**
   * The calls of Deno.upgradeWebSocket for requests of this server, less the WebSockets that came
   * of it.
   */
  #expected = 0;
  /** The request whose handler was called last, and may not have returned yet. */
  #lastRequest: unknown;
  #lastInfo: Info | undefined;
  /** Whether there is a WebSocket of an unknown client. Then no connection of the server moves. */
  #hasUnknown = false;
  /** The ports of clients that speak HTTP/2 without TLS: their connections are never at rest. */
  readonly #http2 = new Set<number>();
  /**
   * Those that speak HTTP/1, from the first request by HTTP/2 on: then all requests are looked at,
   * and a connection of which nothing is known may be of either.
   */
  #http1: Set<number> | undefined;
  /** The ports of clients whose requests came since the last look. */
  readonly #recent = new Set<number>();
  /** Those whose requests were being answered at the last look. */
  readonly #wereRunning = new Set<number>();
  /** The clients of connections that have moved, by the addresses that Deno takes for theirs. */
  readonly #clients = new Map<string, Address>();
  readonly #onUpgrade: Hear = (request) => this.#upgrade(request);
  readonly #entries = new Map<string, FetchHandler>();
  #isWatching = false;
  #seen = 0;

  /** @param running As in `NativeHost`. */
  constructor(deno: DenoNamespace, running: Running) {
    this.#deno = deno;
    this.#running = running;
    hearOfUpgrades(deno, this.#onUpgrade);
  }

  /** The server has ended. */
  end(): void {
    listeners.delete(this.#onUpgrade);
  }

  /** A response has made a WebSocket of a connection. */
  onUpgrade(): void {
    if (this.#expected-- > 0) return;
    this.#expected = 0;
    this.#hasUnknown = true;
  }

  /** Tells the clients of all WebSockets to go. */
  closeWebSockets(): void {
    this.#isGoing = true;
    this.openWebSockets.forEach(sendAway);
  }

  /**
   * Resolves when those that are open now are closed, so many milliseconds after all that was
   * written has been sent, or when the signal fires.
   */
  webSocketsClosed(most: number, signal: AbortSignal): Promise<unknown> {
    const open = [...this.openWebSockets];
    const closed = (socket: WebSocket) =>
      new Promise((resolve) => socket.addEventListener("close", resolve));
    const pause = (milliseconds: number) =>
      new Promise((resolve) => this.#deno.unrefTimer(setTimeout(resolve, milliseconds)));
    const isCut = new Promise((resolve) => signal.addEventListener("abort", resolve));
    const isSending = ({ readyState, bufferedAmount }: WebSocket) =>
      readyState !== WebSocket.CLOSED && bufferedAmount > 0;
    async function late(): Promise<void> {
      while (!signal.aborted && open.some(isSending)) await pause(SENT_CHECK_MS);
      await pause(most);
    }
    return Promise.race([Promise.all(open.map(closed)), late(), isCut]);
  }

  watch(isWatching: boolean): void {
    this.#isWatching = isWatching;
    this.#recent.clear();
  }

  busy(): Pick<ReadonlySet<number>, "has"> | undefined {
    // The end of an answer is written a moment after its handler, or its stream, has ended.
    const ports = new Set([
      ...this.#http2,
      ...this.#webSockets,
      ...this.#recent,
      ...this.#wereRunning,
    ]);
    this.#recent.clear();
    this.#wereRunning.clear();
    if (this.#hasUnknown) return undefined;
    for (const { more } of this.#running()) {
      if (more === undefined) return undefined; // The handler takes no arguments.
      this.#wereRunning.add(clientOf(more as Info, this.#clients).port);
    }
    const [running, http1] = [new Set(this.#wereRunning), this.#http1];
    const has = (port: number) =>
      ports.has(port) || running.has(port) || http1?.has(port) === false;
    return { has };
  }

  enter(path: string, handler: FetchHandler): () => void {
    this.#entries.set(path, handler);
    return () => this.#entries.delete(path);
  }

  goOn(own: SocketAddress, { address, port }: SocketAddress): void {
    if (this.#webSockets.has(own.port)) this.#webSockets.add(port);
    this.#clients.set(keyOf(own.address, own.port), { transport: "tcp", hostname: address, port });
  }

  /** A handler that tells what has to be known. */
  follow(handler: FetchHandler): FetchHandler {
    const hear = (request: Request, info: Info) => this.#hear(request, info);
    const clients = this.#clients;
    function followed(this: unknown, request: Request, info: Info) {
      const entry = hear(request, info);
      if (entry !== undefined) return entry(request, info);
      return handler.call(this, request, clients.size > 0 ? new MovedInfo(info, clients) : info);
    }
    return Object.defineProperty(followed, "length", {
      value: handler.length,
    }) as unknown as FetchHandler;
  }

  /** Returns the handler of an address that nobody else knows. */
  #hear(request: Request, info: Info): FetchHandler | undefined {
    const isSample = this.#isWatching || this.#http1 !== undefined || this.#seen < FIRST ||
      this.#seen % SAMPLE === 0;
    if (isSample && info !== undefined) this.#look(request, info);
    this.#seen++;
    this.#lastRequest = request;
    this.#lastInfo = info;
    return this.#entries.size > 0 ? this.#entries.get(new URL(request.url).pathname) : undefined;
  }

  #look(request: Request, info: Info): void {
    const { port } = clientOf(info, this.#clients);
    this.#recent.add(port);
    // HTTP/1.1 demands a host; Deno shows that of HTTP/2 in the URL only.
    if (request.headers.has("host")) return void this.#http1?.add(port);
    this.#http2.add(port);
    this.#http1 ??= new Set();
    this.#http1.delete(port);
  }

  #upgrade(request: unknown): ReturnType<Hear> {
    const call = request === this.#lastRequest
      ? { more: this.#lastInfo }
      : [...this.#running()].find((call) => call.request === request);
    if (call === undefined) return undefined;
    const port = call.more ? clientOf(call.more as Info, this.#clients).port : undefined;
    return (socket) => {
      this.openWebSockets.add(socket);
      socket.addEventListener("close", () => this.openWebSockets.delete(socket));
      if (this.#isGoing) sendAway(socket);
      if (port === undefined) return; // The handler takes no arguments.
      this.#webSockets.add(port);
      this.#expected++;
    };
  }
}
