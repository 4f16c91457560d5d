/** Servers of a runtime's own: Deno.serve, Bun.serve. */
import type { SocketAddress } from "./socket_adapter.ts";
import type { FetchHandler } from "./token.ts";

/** Where a server is asked for. */
export type NativeAddress =
  | { readonly path: string }
  /**
   * As the application gave them. What it leaves out is the runtime's default, the same in every
   * generation.
   */
  | { readonly port: unknown; readonly hostname: unknown };

/** Where an app is served. */
export type ServedAt = { readonly path: string } | { readonly port: number; readonly host: string };

/** A server whose socket comes from the predecessor. */
export interface InheritedAddress {
  /** The address that the predecessor's server reports, in the form of the runtime. */
  readonly reported: Readonly<Record<string, unknown>>;
  /** Where the socket listens; see src/linux/places.ts. */
  readonly place?: unknown;
}

/** A socket that this process was started with, for a server; sd_listen_fds(3). */
export interface ActivatedAddress {
  /** Its descriptor. */
  readonly fd: number;
  /** The address on which it listens. */
  readonly hostname: string;
  /** The port on which it listens. */
  readonly port: number;
}

/** Where a server is opened. */
export interface Placement {
  /** Names the server in every generation. */
  readonly key: string;
  /** Where the predecessor has its socket: then the server is opened at a private address. */
  readonly inherited: InheritedAddress | undefined;
  /**
   * The socket that this process was started with at the address: then the server is opened at a
   * private address as well.
   */
  readonly activated?: ActivatedAddress | undefined;
  /**
   * The name under which a unix socket is made. It is renamed to its path, or was made for the
   * inherited one to take its place.
   */
  readonly temporaryPath: string | undefined;
}

/** The connections of a server, which another process can serve. */
export interface NativeConnections {
  /** From now on requests are followed as closely as a move needs, or no longer. */
  watch(isWatching: boolean): void;
  /**
   * Closes those that wait for a request, without a word to their clients: who has a copy of the
   * descriptor has the connection. Only where the runtime knows them. Not in a handler of requests:
   * an answer may be in a buffer.
   */
  closeIdle?(): void;
  /**
   * The ports of the clients whose connections are in use, or cannot move, as far as the handlers
   * know it; `undefined` where they do not. Those of the requests since the call before are among
   * them.
   */
  busy?(): Pick<ReadonlySet<number>, "has"> | undefined;
  /**
   * Answers the requests for a path that nobody else knows, until the function that it returns is
   * called. What that path serves besides does not matter.
   */
  enter(path: string, handler: FetchHandler): () => void;
  /**
   * Whether a connection has other timeouts before its first request than it has between two: then
   * the ones that this process makes ask once.
   */
  readonly asksFirst?: boolean;
  /**
   * A connection goes on below one that this process has made.
   *
   * @param own The address by which the server knows that one.
   * @param client The address of the client.
   */
  goOn?(own: SocketAddress, client: SocketAddress): void;
}

/** A server that was opened. */
export interface AdoptedServer {
  /** As in its placement. */
  readonly key: string;
  /** The path of its unix socket. */
  readonly path: string | undefined;
  /** Where its own socket listens: the port, or the name under which it was made. */
  readonly own: number | string;
  /** The address that it reports. */
  readonly reported: Readonly<Record<string, unknown>>;
  /** Its connections; `undefined` where they cannot move: TLS, unix sockets. */
  readonly connections: NativeConnections | undefined;
  /** The descriptor of the socket that this process was started with at its address. */
  readonly activated?: number | undefined;
  /** From now on its responses carry `Connection: close`, or no longer. */
  setClosing(isClosing: boolean): void;
  /**
   * How many requests are under way whose responses will carry no `Connection: close`, because they
   * began before the server was closing. Absent where there are none.
   */
  unannounced?(): number;
  /**
   * Stops it. Resolves when the requests under way have ended.
   *
   * @param idle When it resolves, idle connections are closed. A request that is on its way to one
   * would be lost.
   * @param isReplaced Whether another process serves what comes from now on: this one can wait for
   * the end of what goes on over its connections.
   */
  finish(idle: Promise<void>, isReplaced: boolean): Promise<unknown>;
  /** Closes what is left. Returns how many requests and WebSockets that were. */
  cut(): number;
  /**
   * Only of a server whose connections are the application's: the kernel alone knows all of them.
   * Called when all work of this process is done. Only then a loop that accepts may end: a program
   * may end with it.
   */
  endAccepting?(): void;
}

/** The native servers of a process, as the functions see them that open one. */
export interface NativeHost {
  /** Says where a server is to be opened. */
  place(asked: NativeAddress): Placement;
  /** Takes in a server that was opened. Puts the socket of a first generation at its path. */
  add(server: AdoptedServer): void;
  /** Forgets a server that the application has stopped: another one may listen at its address. */
  remove(server: AdoptedServer): void;
  /**
   * As {@linkcode Token.fetch}.
   *
   * @param isClosing Whether its responses carry `Connection: close`.
   * @param onUpgrade Called for each response that makes a connection one of another protocol.
   */
  wrap<H extends FetchHandler>(handler: H, isClosing: () => boolean, onUpgrade?: () => void): H;
  /**
   * What wrapped handlers are answering: the request, and what the runtime has given them besides.
   */
  running(): Iterable<{ readonly request?: unknown; readonly more?: unknown }>;
  /**
   * Resolves when the requests of all wrapped handlers have ended, after the token was cancelled.
   */
  answered(): Promise<unknown>;
}

/** A function that opens servers. */
// The arguments and the result differ from runtime to runtime.
// deno-lint-ignore no-explicit-any
export type ServeFunction = (...args: any[]) => any;

/** What a module may export for its server. Only Bun has `routes` and `websocket`. */
export interface ServedApp {
  /** Answers requests. */
  readonly fetch: FetchHandler;
  /** The key and the certificate. */
  readonly tls?: { readonly key?: unknown; readonly cert?: unknown } | undefined;
  /** Answers when the handler throws. */
  readonly error?: unknown;
  /** Of Bun only. */
  readonly routes?: unknown;
  /** Of Bun only. */
  readonly websocket?: unknown;
  /** Of Bun only, in seconds. */
  readonly idleTimeout?: unknown;
  /** Of Bun only, in bytes. */
  readonly maxRequestBodySize?: unknown;
  /** Of Bun only. */
  readonly development?: unknown;
}

/** A function of a runtime that opens listening sockets: `Deno.listen`, `Bun.listen`. */
export interface NativeListen {
  /** For messages. */
  readonly name: string;
  /** Whether this is the function. */
  is(listen: unknown): boolean;
  /** Returns a function of the same type. What it opens is known to the host. */
  adopt(listen: ServeFunction, host: NativeHost): ServeFunction;
}

/** The function of a runtime that opens its own servers: `Deno.serve`, `Bun.serve`. */
export interface NativeServe extends NativeListen {
  /** Whether an app may have `routes` and `websocket`. */
  readonly takesRoutes: boolean;
  /**
   * Whether a process accepts connections on a unix socket; `undefined` where that cannot be known.
   */
  isServed(path: string): boolean | undefined;
  /**
   * A socket that this process was started with at an address, and that no server has yet. Only
   * where it can be put below a server.
   */
  activated?(asked: NativeAddress): ActivatedAddress | undefined;
  /**
   * Serves an app, with the adopted function that `adopt` turns this runtime's into. Returns the
   * port.
   */
  open(
    adopt: <S extends ServeFunction>(serve: S) => S,
    app: ServedApp,
    where: ServedAt,
  ): number | undefined;
}
