import type { ServeFunction } from "./native.ts";
import type { Live, LiveHandlers } from "./live.ts";

/** Why a process that has been replaced was cancelled. */
export interface ReloadReason {
  /**
   * The process has a successor, which is in charge. After a failed check that is its predecessor.
   */
  readonly kind: "reload";
  /** The process id of the process in charge. */
  readonly pid: number;
  /** The generation of the process in charge. */
  readonly generation: number;
}

/** Why a process that shuts down was cancelled. */
export interface ShutdownReason {
  /** The process shuts down without a successor. */
  readonly kind: "shutdown";
  /** The signal that asked for it, if there was one. */
  readonly signal?: string;
  /** The argument of `cancel()`, or the reason of the outer signal. */
  readonly reason?: unknown;
}

/**
 * Why a token was cancelled: the reason of `token.signal`, and the result of `token.cancelled()`.
 */
export type CancelReason = ReloadReason | ShutdownReason;

/** A tracked task that rejected. */
export interface TaskFailure {
  /** The name of the task. */
  readonly name: string;
  /** The error. */
  readonly error: unknown;
}

/** The outcome of the tracked tasks. */
export interface Drained {
  /** Whether every task has ended. `false` only after a timeout. */
  readonly complete: boolean;
  /** The names of the tasks that were still running at the timeout. */
  readonly running: readonly string[];
  /** The tasks that rejected for another reason than the cancellation; the last hundred at most. */
  readonly failed: readonly TaskFailure[];
}

/** How long to wait for tasks. */
export interface DrainOptions {
  /**
   * Milliseconds from the cancellation or the call, whichever is later. Default: as long as it
   * takes.
   */
  timeout?: number;
}

/** How a task is tracked. */
export interface TrackOptions {
  /**
   * The name under which `drained()` reports the task. Default: the function's name, or `task` and
   * a number.
   */
  name?: string;
}

/** Asks the parts of a program to finish, and waits for them. */
export interface CancellationToken extends AsyncDisposable {
  /** Fires when the token is cancelled; its `reason` is a {@linkcode CancelReason}. */
  readonly signal: AbortSignal;
  /** Whether the token is cancelled. */
  readonly isCancelled: boolean;
  /**
   * Resolves with the reason when the token is cancelled. Keeps the process alive until then.
   *
   * @example
   * ```ts
   * import { listen } from "@js0/reload-self";
   *
   * const token = listen();
   * const why = await token.cancelled();
   * console.log(why.kind === "reload" ? `replaced by process ${why.pid}` : `told to stop by ${why.signal}`);
   * ```
   */
  cancelled(): Promise<CancelReason>;
  /**
   * Shuts down. Does nothing when the token is cancelled already.
   *
   * @example
   * ```ts
   * import { listen } from "@js0/reload-self";
   *
   * const token = listen();
   * token.cancel("nothing to do");
   * console.log(await token.cancelled()); // { kind: "shutdown", reason: "nothing to do" }
   * ```
   */
  cancel(reason?: unknown): void;
  /**
   * Creates a token that is cancelled with this one, but not the other way round. Its tasks are
   * tasks of this token too.
   *
   * @example
   * ```ts
   * import { listen } from "@js0/reload-self";
   *
   * const token = listen();
   * const job = token.child();
   * job.track((signal) => new Promise((resolve) => signal.addEventListener("abort", resolve)));
   * job.cancel();
   * await job.drained();
   * console.log(token.isCancelled); // false: only the job was cancelled
   * token.cancel();
   * ```
   */
  child(): CancellationToken;
  /**
   * Adds a task, for which `drained()` then waits: a promise, or a function that is called at once
   * with the token's signal. A rejection is reported by `drained()` and as an event, never as an
   * unhandled rejection. A task that rejects because it was cancelled has not failed.
   *
   * @returns The promise of the task.
   * @throws {TypeError} When the task is neither a promise nor a function.
   *
   * @example
   * ```ts
   * import { listen } from "@js0/reload-self";
   *
   * const token = listen();
   * token.track(async function poll(signal) {
   *   while (!signal.aborted) await new Promise((resolve) => setTimeout(resolve, 100));
   * });
   * token.cancel();
   * console.log(await token.drained()); // { complete: true, running: [], failed: [] }
   * ```
   */
  track<T>(
    task: PromiseLike<T> | ((signal: AbortSignal) => PromiseLike<T> | T),
    options?: TrackOptions,
  ): Promise<T>;
  /**
   * Resolves when the token is cancelled and every tracked task has ended, also those that were
   * tracked by other tasks. A task that fails does not make it reject.
   *
   * @throws {TypeError} When the timeout is not a number of milliseconds.
   *
   * @example
   * ```ts
   * import { listen } from "@js0/reload-self";
   *
   * const token = listen();
   * token.track(new Promise(() => {}), { name: "something that never ends" });
   * token.cancel();
   * const { complete, running } = await token.drained({ timeout: 100 });
   * if (!complete) console.log("not ended:", running);
   * ```
   */
  drained(options?: DrainOptions): Promise<Drained>;
  /** Cancels the token and waits for its tasks. */
  [Symbol.asyncDispose](): Promise<void>;
}

/** A server of node's kind. */
export interface BindableServer {
  /** Subscribes to an event. */
  // Every server has events of its own.
  // deno-lint-ignore no-explicit-any
  on(event: string, listener: (...args: any[]) => void): unknown;
  /** Subscribes to an event, in front of all other listeners. */
  // deno-lint-ignore no-explicit-any
  prependListener(event: string, listener: (...args: any[]) => void): unknown;
  /** Counts the subscriptions to an event. */
  listenerCount(event: string): number;
  /** Calls the listeners of an event. */
  // deno-lint-ignore no-explicit-any
  emit(event: string, ...args: any[]): boolean;
  /** Where it listens. */
  address(): unknown;
}

/** The address of a bound server: a port, or the path of a unix socket. */
export interface BindOptions {
  /**
   * The TCP port; 0 lets the kernel choose. A string of digits, as variables of the environment
   * are, stands for the number.
   */
  port?: number | string;
  /** The address or host name. Default: all addresses, of IPv6 and IPv4. */
  host?: string;
  /** The path of a unix socket. */
  path?: string;
  /**
   * The name of a socket that systemd starts this process with (`FileDescriptorName=`). Where there
   * is none, the port or the path is used. Without a name, a socket of systemd's is used when it
   * has the same address.
   */
  name?: string;
  /** How many connections may wait to be accepted. Default: 511. */
  backlog?: number;
  /** Do not accept IPv4 on the IPv6 address for all. Default: `false`. */
  ipv6Only?: boolean;
  /** Share the port with other sockets. Not needed for a reload. Default: `false`. */
  reusePort?: boolean;
  /** Lets all users read from the unix socket. Default: `false`. */
  readableAll?: boolean;
  /** Lets all users write to the unix socket. Default: `false`. */
  writableAll?: boolean;
  /**
   * Do idle HTTP connections move to the new process at a reload? `false` for a server that expects
   * something at the beginning of each connection, such as the PROXY protocol: there they are
   * drained. Default: `true`.
   */
  moveIdle?: boolean;
}

/** A WebSocket of any runtime or library. */
export interface WebSocketLike {
  /** 3: closed. */
  readonly readyState: number;
  /** Closes it. */
  close(code?: number, reason?: string): void;
}

/**
 * A fetch handler of `Deno.serve`, `Bun.serve` and the like. Its arguments are the request and
 * those that the runtime adds.
 */
export type FetchHandler = (
  // The arguments differ from runtime to runtime; the type of the handler itself is kept.
  // deno-lint-ignore no-explicit-any
  ...args: any[]
) => Response | undefined | void | PromiseLike<Response | undefined | void>;

/** The cancellation token of this process, with its part in reloads. `listen()` returns it. */
export interface Token extends CancellationToken {
  /** The generation of this process: 0 was started by the operator, each reload adds 1. */
  readonly generation: number;
  /**
   * Whether this program can be reloaded at all. `false` where there are no signals or processes,
   * and in worker threads.
   */
  readonly canReload: boolean;
  /**
   * Declares that this process can take over. Needed with `ready: "manual"`; otherwise it only
   * makes the process ready earlier. A second call, or a late one, does nothing.
   *
   * @example
   * ```ts
   * import { listen } from "@js0/reload-self";
   *
   * const token = listen({ ready: "manual" });
   * await new Promise((resolve) => setTimeout(resolve, 100)); // Warms its cache.
   * token.ready();
   * await token.cancelled();
   * ```
   */
  ready(): void;
  /**
   * Reloads, like the reload signal. While a reload is under way, the new process reloads once more
   * when it is in charge.
   *
   * @returns The process id of the new process, which is in charge.
   * @throws {ReloadError} When the reload failed; this process goes on.
   *
   * @example
   * ```ts
   * import { listen } from "@js0/reload-self";
   *
   * const token = listen();
   * if (token.generation === 0) console.log(`process ${await token.reload()} is in charge`);
   * await token.cancelled();
   * ```
   */
  reload(): Promise<number>;
  /**
   * Makes a server listen: one of `node:net`, `node:tls`, `node:http`, `node:https`, `node:http2`,
   * or of a framework built on them. Where the predecessor listens on the same address, this
   * process takes over that socket when it is in charge, with the connections that wait in it. When
   * the token is cancelled, the server stops listening and its connections are finished: responses
   * carry `Connection: close`, idle connections are closed after `idleGrace`, all others after
   * `drainTimeout`. The application should not close the server itself. `drained()` waits for all
   * of it.
   *
   * A socket of `node:dgram` is bound to a port and a host, and passes on too. One process reads
   * from it at a time. It is closed when all tasks have ended after the cancellation, so that late
   * answers leave from it. With port 0 all generations keep the one that the kernel chose.
   *
   * @returns Resolves when the server listens, or will as soon as this process is in charge;
   * `server.address()` is known then.
   * @throws {TypeError} When the server or an option is wrong.
   * @throws {Error} The error of `server.listen()` or `socket.bind()`, for example when the address
   * is in use.
   *
   * @example A server
   * ```ts
   * import { createServer } from "node:http";
   * import { listen } from "@js0/reload-self";
   *
   * const token = listen();
   * const server = createServer((_request, response) => response.end("hello"));
   * await token.bind(server, { port: 8000 });
   * await token.drained();
   * ```
   *
   * @example Datagrams
   * ```ts
   * import { createSocket } from "node:dgram";
   * import { listen } from "@js0/reload-self";
   *
   * const token = listen();
   * const socket = createSocket("udp4", (data, { port, address }) => socket.send(data, port, address));
   * await token.bind(socket, { port: 0 });
   * token.cancel();
   * ```
   */
  bind(server: BindableServer, options: BindOptions): Promise<void>;
  /**
   * Adopts `Bun.serve` or `Deno.serve`: returns a function of the same type. What it opens is
   * handed over, drained and stopped, with all that it can serve: routes, WebSockets, TLS, unix
   * sockets. The application does not stop the server itself.
   *
   * The socket itself passes to the new process, as that of a bound server does: `reusePort` is not
   * needed, and port 0 keeps its port. Where the predecessor listens on the same address, the
   * server gets its socket when this process is in charge, and reports its address before.
   *
   * With `Bun.listen`, `Deno.listen` and `Deno.listenTls` the listening socket passes on; the
   * connections stay where they were accepted until they end, for `drainTimeout` at most. What
   * `Bun.udpSocket` and `Deno.listenDatagram` open passes on as a bound socket of `node:dgram`; it
   * lives as long as the program. On Linux, with Deno's `--allow-ffi`. Elsewhere a
   * server with `reusePort: true` is reloaded, and connections may be lost.
   *
   * @param serve `Bun.serve`, `Deno.serve`, `Bun.listen`, `Deno.listen`, `Deno.listenTls`,
   * `Bun.udpSocket` or `Deno.listenDatagram`.
   * @throws {TypeError} For another function, and on Node.
   *
   * @example
   * ```ts
   * import { listen } from "@js0/reload-self";
   *
   * const token = listen();
   * const serve = token.adopt(Deno.serve);
   * serve({ port: 8000 }, () => new Response("hello"));
   * await token.drained();
   * ```
   */
  adopt<S extends ServeFunction>(serve: S): S;
  /**
   * Wraps the fetch handler of `Deno.serve` or `Bun.serve`: when a successor is in charge, and
   * while this process shuts down, its responses carry `Connection: close`, so that clients connect
   * to the new process. `drained()` waits for its requests; those that have not ended after
   * `drainTimeout` are cut: unanswered ones get 503, streamed answers of Deno's break off, Bun's
   * server closes all its connections.
   *
   * @throws {TypeError} When the handler is not a function.
   *
   * @example
   * ```ts
   * import { listen } from "@js0/reload-self";
   *
   * const token = listen();
   * const handler = token.fetch((request: Request) => new Response(`you asked for ${request.url}`));
   * const server = Deno.serve({ port: 8000, reusePort: true }, handler);
   * await token.drained();
   * await server.shutdown();
   * ```
   */
  fetch<H extends FetchHandler>(handler: H): H;
  /**
   * Returns the name under which `Deno.serve({ path })` or `Bun.serve({ unix })` must listen
   * instead of the path. The socket is renamed to the path when this process is in charge, with the
   * owner, the group and the mode of the previous socket: there is always one to connect to. The
   * socket of a killed process is replaced. `bind()` does all this by itself.
   *
   * @throws {Error} With the code `EADDRINUSE` when another program serves the path.
   *
   * @example
   * ```ts
   * import { listen } from "@js0/reload-self";
   *
   * const token = listen();
   * const server = Deno.serve({ path: await token.path("app.sock") }, token.fetch(() => new Response("hello")));
   * await token.drained();
   * await server.shutdown();
   * ```
   */
  path(path: string): Promise<string>;
  /**
   * Declares connections that move: at a reload each goes on in the new process, with what the
   * application knows of it, and its client notices a pause of milliseconds. Call it in every
   * generation, before the servers listen. On systems and for connections where that is not
   * possible (Windows, TLS, `setEncoding`), they are drained as others are.
   *
   * Where there is `saveState`, all connections are let go of before the state is taken: what they
   * have written is in it.
   *
   * @param name The same in every generation.
   * @returns Its `accept` is the listener for `net.createServer()`.
   * @throws {TypeError} When the name is taken or a handler is missing.
   *
   * @example
   * ```ts
   * import { createServer, type Socket } from "node:net";
   * import { listen } from "@js0/reload-self";
   *
   * const token = listen();
   * const counts = new Map<Socket, number>();
   * const live = token.live<number, Socket>("counter", {
   *   accept(socket, count = 0) {
   *     counts.set(socket, count);
   *     socket.on("data", (chunk) => {
   *       counts.set(socket, (counts.get(socket) ?? 0) + chunk.length);
   *       socket.write(`${counts.get(socket)}\n`);
   *     });
   *   },
   *   release: (socket) => counts.get(socket),
   * });
   * await token.bind(createServer(live.accept), { port: 0 });
   * token.cancel();
   * ```
   */
  // The types of the other runtimes do not know node's Socket: the application names it.
  // deno-lint-ignore no-explicit-any
  live<Session = unknown, Socket = any>(
    name: string,
    handlers: LiveHandlers<Session, Socket>,
  ): Live<Socket>;
  /**
   * Closes a WebSocket with 1001 (going away) when the token is cancelled.
   *
   * @throws {TypeError} When it cannot be closed.
   *
   * @example
   * ```ts
   * import { listen } from "@js0/reload-self";
   *
   * const token = listen();
   * const serve = token.adopt(Deno.serve);
   * serve({ port: 8000 }, (request) => {
   *   const { socket, response } = Deno.upgradeWebSocket(request);
   *   token.webSocket(socket).onmessage = ({ data }) => socket.send(data);
   *   return response;
   * });
   * await token.cancelled();
   * ```
   */
  webSocket<S extends WebSocketLike>(socket: S): S;
  /**
   * The state that the predecessor handed over with `saveState`. Resolves when this process is in
   * charge, before its first connection; without a predecessor at once, with `undefined`. Listen
   * before you await it: the predecessor hands over when this process is ready.
   */
  readonly inheritedState: Promise<unknown>;
  /** Cancels the token, waits for its tasks, and ends the subscription to signals. */
  [Symbol.asyncDispose](): Promise<void>;
}
