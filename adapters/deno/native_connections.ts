/** The connections of Deno.serve, which another process can serve. */
import type { NativeConnections } from "../../core/native.ts";
import type { FetchHandler } from "../../core/token.ts";

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

/** What follows the connections of one server. */
export interface Followed {
  readonly connections: NativeConnections;
  /** A handler that tells what has to be known. */
  follow(handler: FetchHandler): FetchHandler;
}

/**
 * Follows the connections of a server.
 *
 * @param running As in `NativeHost`.
 */
export function followConnections(running: () => Iterable<unknown>): Followed {
  /** The ports of clients that speak HTTP/2 without TLS: their connections are never at rest. */
  const http2 = new Set<number>();
  /** The ports of clients whose requests came since the last look. */
  const recent = new Set<number>();
  /** The clients of connections that have moved, by the addresses that Deno takes for theirs. */
  const clients = new Map<string, Address>();
  let isWatching = false;
  let seen = 0;

  function look(request: Request, info: Info): void {
    const { port } = clientOf(info, clients);
    recent.add(port);
    // HTTP/1.1 demands a host; Deno shows that of HTTP/2 in the URL only.
    if (!request.headers.has("host")) http2.add(port);
  }

  return {
    connections: {
      watch(on) {
        isWatching = on;
        recent.clear();
      },
      busy() {
        const ports = new Set([...http2, ...recent]);
        recent.clear();
        for (const info of running()) {
          if (info === undefined) return undefined; // The handler takes no arguments.
          ports.add(clientOf(info as Info, clients).port);
        }
        return ports;
      },
      goOn(own, { address, port }) {
        clients.set(keyOf(own.address, own.port), { transport: "tcp", hostname: address, port });
      },
    },
    follow(handler) {
      function followed(this: unknown, request: Request, info: Info) {
        if (isWatching || seen < FIRST || seen % SAMPLE === 0) { if (info !== undefined) look(request, info); }
        seen++;
        return handler.call(this, request, clients.size > 0 ? new MovedInfo(info, clients) : info);
      }
      return Object.defineProperty(followed, "length", { value: handler.length }) as unknown as FetchHandler;
    },
  };
}
