/** Why a process that has been replaced was cancelled. */
export interface ReloadReason {
  /** The process has a successor, which is in charge. */
  readonly kind: "reload";
  /** The process id of the successor. */
  readonly pid: number;
  /** The generation of the successor. */
  readonly generation: number;
}

/** Why a process that shuts down was cancelled. */
export interface ShutdownReason {
  /** The process shuts down, nobody takes over. */
  readonly kind: "shutdown";
  /** The signal that asked for it, if it was one. */
  readonly signal?: string;
  /** What was given to `cancel()`, or the reason of the outer signal. */
  readonly reason?: unknown;
}

/** Why a token was cancelled: `token.signal.reason`, and what `token.cancelled()` resolves to. */
export type CancelReason = ReloadReason | ShutdownReason;

/** A tracked task that rejected. */
export interface TaskFailure {
  /** The name of the task. */
  readonly name: string;
  /** What it rejected with. */
  readonly error: unknown;
}

/** What became of the tracked tasks. */
export interface Drained {
  /** Has every task ended? `false` only after a timeout. */
  readonly complete: boolean;
  /** The names of the tasks that were still running at the timeout. */
  readonly running: readonly string[];
  /** The tasks that rejected for another reason than being cancelled; of very many, the last hundred. */
  readonly failed: readonly TaskFailure[];
}

/** How long to wait for tasks. */
export interface DrainOptions {
  /** Milliseconds, counted from the cancellation or the call, whichever is later. Default: as long as it takes. */
  timeout?: number;
}

/** How a task is tracked. */
export interface TrackOptions {
  /** The name under which `drained()` reports the task. Default: the function's name, or `task` and a number. */
  name?: string;
}

/** Tells the parts of a program that they should finish, and waits for them. */
export interface CancellationToken extends AsyncDisposable {
  /** Fires when the token is cancelled; its `reason` is a {@linkcode CancelReason}. */
  readonly signal: AbortSignal;
  /** Is the token cancelled? */
  readonly isCancelled: boolean;
  /** Resolves with the reason when the token is cancelled. While somebody waits for it, the process stays alive. */
  cancelled(): Promise<CancelReason>;
  /** Asks for the shutdown from inside. Does nothing when the token is cancelled already. */
  cancel(reason?: unknown): void;
  /** A token that is cancelled with this one, but not the other way round. Its tasks are tasks of this token too. */
  child(): CancellationToken;
  /**
   * Counts a part of the program, which `drained()` then waits for. Give it the promise of the part, or a function that is
   * called at once with the token's signal. A rejection is reported by `drained()` and as an event, never as an unhandled
   * rejection; a task that rejects because it was cancelled just ended.
   *
   * @returns The promise of the task.
   * @throws {TypeError} When the task is neither a promise nor a function.
   */
  track<T>(task: PromiseLike<T> | ((signal: AbortSignal) => PromiseLike<T> | T), options?: TrackOptions): Promise<T>;
  /**
   * Resolves when the token is cancelled and every tracked task has ended, those included that tasks have started.
   * Never rejects on account of a task.
   *
   * @throws {TypeError} When the timeout is not a number of milliseconds.
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
  /** Subscribes to an event, before all others. */
  // deno-lint-ignore no-explicit-any
  prependListener(event: string, listener: (...args: any[]) => void): unknown;
  /** Counts the subscriptions to an event. */
  listenerCount(event: string): number;
  /** Tells the subscribers of an event. */
  // deno-lint-ignore no-explicit-any
  emit(event: string, ...args: any[]): boolean;
  /** Where it listens. */
  address(): unknown;
}

/** Where a bound server listens: on a port, or at the path of a unix socket. */
export interface BindOptions {
  /** The TCP port; 0 lets the kernel choose. */
  port?: number;
  /** The address or host name. Default: all addresses, of IPv6 and IPv4. */
  host?: string;
  /** The path of a unix socket. */
  path?: string;
  /**
   * The name of a socket that systemd starts this process with (`FileDescriptorName=`). Where there is no such socket, the port or
   * the path is for. Without a name, a socket of systemd's is used when it listens on the same address.
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
}

/** A WebSocket of any runtime or library. */
export interface WebSocketLike {
  /** 3: closed. */
  readonly readyState: number;
  /** Closes it. */
  close(code?: number, reason?: string): void;
}

/** A fetch handler of `Deno.serve`, `Bun.serve` and the like: it is given a request, and what the runtime adds to it. */
// What that is differs from runtime to runtime, and the handler's own type is kept.
// deno-lint-ignore no-explicit-any
export type FetchHandler = (...args: any[]) => Response | undefined | void | PromiseLike<Response | undefined | void>;

/** What `listen()` returns: the cancellation token of this process, and its part in reloads. */
export interface Token extends CancellationToken {
  /** Which process of the program this is: 0 was started by the operator, every reload counts one up. */
  readonly generation: number;
  /** Can this program be reloaded at all? `false` where there are no signals or processes, and in worker threads. */
  readonly canReload: boolean;
  /**
   * Says that this process can take over. Needed with `ready: "manual"`; otherwise it only says so earlier. A second call, or one
   * that comes too late, does nothing.
   */
  ready(): void;
  /**
   * Does what the reload signal does. While a reload is under way, the new process reloads once more when it is in charge.
   *
   * @returns The process id of the new process, which is in charge then.
   * @throws {ReloadError} When the reload failed; this process goes on.
   */
  reload(): Promise<number>;
  /**
   * Lets a server of node's kind listen: `node:net`, `node:tls`, `node:http`, `node:https`, `node:http2`, and what is built on them.
   * Where the predecessor listens on the same address, its very socket is taken over, with the connections that wait in it, from
   * the moment that this process is in charge. When the token is cancelled, the server stops listening and its connections are
   * finished: answers carry `Connection: close`, idle ones are closed after `settle`, and after `drainTimeout` what is left. The
   * application need not, and should not, close the server itself. `drained()` waits for all of it.
   *
   * With port 0 the kernel chooses, and every generation keeps what it chose for the first.
   *
   * @returns Resolves when the server listens, or will as soon as this process is in charge; `server.address()` tells where.
   * @throws {TypeError} When the server or an option is wrong.
   * @throws {Error} When the address cannot be listened on, as `server.listen()` reports it.
   */
  bind(server: BindableServer, options: BindOptions): Promise<void>;
  /**
   * Wraps the fetch handler of `Deno.serve` or `Bun.serve`: as soon as a successor is in charge, and while this process shuts down,
   * its answers carry `Connection: close`, so that clients come back to the new process.
   */
  fetch<H extends FetchHandler>(handler: H): H;
  /**
   * The name for `Deno.serve({ path })` and `Bun.serve({ unix })` to listen under instead of the path itself. The socket is renamed
   * to the path when it is there and this process is in charge, with the mode of the one before: there always is one to connect
   * to. What a process that was killed has left behind is replaced. `bind()` does this by itself.
   *
   * @throws {Error} With the code `EADDRINUSE` when another program serves the path.
   */
  path(path: string): Promise<string>;
  /** Closes a WebSocket with 1001 (going away) when the token is cancelled. */
  webSocket<S extends WebSocketLike>(socket: S): S;
  /**
   * What the predecessor handed over with `handOver`: resolves when this process is in charge, before its first connection, and at
   * once, with `undefined`, where there is no predecessor. Listen first and wait for this afterwards: the predecessor hands over
   * when this process is ready.
   */
  readonly inherited: Promise<unknown>;
  /** Cancels the token, waits for its tasks, and ends the subscription to signals. */
  [Symbol.asyncDispose](): Promise<void>;
}
