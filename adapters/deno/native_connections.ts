/** The connections of Deno.serve, which another process can serve. */
import { GOING_AWAY, GOING_AWAY_REASON } from "../../src/core/going_away.ts";
import type { NativeConnections } from "../../src/core/native.ts";
import type { DenoNamespace } from "./namespace.ts";
import type { FetchHandler } from "../../src/core/token.ts";
import { closeWebSocket } from "./web_sockets.ts";

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

/** Closes a WebSocket as soon as it is open: Deno 2.9 does nothing when it is asked earlier. */
function sendAway(socket: WebSocket): void {
  if (socket.readyState === OPEN) closeWebSocket(socket, GOING_AWAY, GOING_AWAY_REASON);
  else if (socket.readyState === CONNECTING) socket.addEventListener("open", () => sendAway(socket));
}

/** What follows the connections of one server. */
export interface Followed {
  readonly connections: NativeConnections;
  /** A handler that tells what has to be known. */
  follow(handler: FetchHandler): FetchHandler;
  /** A response has made a WebSocket of a connection. */
  onUpgrade(): void;
  /** The WebSockets that are open. */
  readonly webSockets: ReadonlySet<WebSocket>;
  /** Tells the clients of all WebSockets to go. */
  closeWebSockets(): void;
}

type Running = () => Iterable<{ readonly request?: unknown; readonly more?: unknown }>;

/**
 * Hears of each call of Deno.upgradeWebSocket before it: afterwards Deno does not say any more who the client is. Returns what is called with
 * the WebSocket.
 */
type Hear = (request: unknown) => ((socket: WebSocket) => void) | undefined;
const listeners = new Set<Hear>();

function hearOfUpgrades(deno: DenoNamespace, hear: Hear): void {
  const isFirst = listeners.size === 0;
  listeners.add(hear);
  if (!isFirst) return;
  const { upgradeWebSocket } = deno;
  deno.upgradeWebSocket = (request, ...rest) => {
    const made = [...listeners].map((hear) => hear(request));
    const upgrade = upgradeWebSocket.call(deno, request, ...rest);
    for (const one of made) one?.(upgrade.socket);
    return upgrade;
  };
}

/**
 * Follows the connections of a server.
 *
 * @param running As in `NativeHost`.
 */
export function followConnections(deno: DenoNamespace, running: Running): Followed {
  const open = new Set<WebSocket>();
  let isGoing = false;
  /** The ports of clients that have WebSockets. */
  const webSockets = new Set<number>();
  /** The calls of Deno.upgradeWebSocket for requests of this server, less the WebSockets that came of it. */
  let expected = 0;
  /** The request whose handler was called last, and may not have returned yet. */
  let lastRequest: unknown;
  let lastInfo: Info | undefined;
  /** Whether there is a WebSocket of an unknown client. Then no connection of the server moves. */
  let hasUnknown = false;
  /** The ports of clients that speak HTTP/2 without TLS: their connections are never at rest. */
  const http2 = new Set<number>();
  /** The ports of clients whose requests came since the last look. */
  const recent = new Set<number>();
  /** Those whose requests were being answered at the last look. */
  const wereRunning = new Set<number>();
  /** The clients of connections that have moved, by the addresses that Deno takes for theirs. */
  const clients = new Map<string, Address>();
  const entries = new Map<string, FetchHandler>();
  let isWatching = false;
  let seen = 0;

  function look(request: Request, info: Info): void {
    const { port } = clientOf(info, clients);
    recent.add(port);
    // HTTP/1.1 demands a host; Deno shows that of HTTP/2 in the URL only.
    if (!request.headers.has("host")) http2.add(port);
  }

  hearOfUpgrades(deno, (request) => {
    const call = request === lastRequest ? { more: lastInfo } : [...running()].find((call) => call.request === request);
    if (call === undefined) return undefined;
    const port = call.more ? clientOf(call.more as Info, clients).port : undefined;
    return (socket) => {
      open.add(socket);
      socket.addEventListener("close", () => open.delete(socket));
      if (isGoing) sendAway(socket);
      if (port === undefined) return; // The handler takes no arguments.
      webSockets.add(port);
      expected++;
    };
  });

  return {
    onUpgrade() {
      if (expected-- > 0) return;
      expected = 0;
      hasUnknown = true;
    },
    webSockets: open,
    closeWebSockets() {
      isGoing = true;
      open.forEach(sendAway);
    },
    connections: {
      watch(on) {
        isWatching = on;
        recent.clear();
      },
      busy() {
        // The end of an answer is written a moment after its handler, or its stream, has ended.
        const ports = new Set([...http2, ...webSockets, ...recent, ...wereRunning]);
        recent.clear();
        wereRunning.clear();
        if (hasUnknown) return undefined;
        for (const { more } of running()) {
          if (more === undefined) return undefined; // The handler takes no arguments.
          wereRunning.add(clientOf(more as Info, clients).port);
        }
        return new Set([...ports, ...wereRunning]);
      },
      enter(path, handler) {
        entries.set(path, handler);
        return () => entries.delete(path);
      },
      goOn(own, { address, port }) {
        if (webSockets.has(own.port)) webSockets.add(port);
        clients.set(keyOf(own.address, own.port), { transport: "tcp", hostname: address, port });
      },
    },
    follow(handler) {
      function followed(this: unknown, request: Request, info: Info) {
        if (isWatching || seen < FIRST || seen % SAMPLE === 0) { if (info !== undefined) look(request, info); }
        seen++;
        lastRequest = request;
        lastInfo = info;
        const entry = entries.size > 0 ? entries.get(new URL(request.url).pathname) : undefined;
        if (entry !== undefined) return entry(request, info);
        return handler.call(this, request, clients.size > 0 ? new MovedInfo(info, clients) : info);
      }
      return Object.defineProperty(followed, "length", { value: handler.length }) as unknown as FetchHandler;
    },
  };
}
