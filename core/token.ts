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
  /** Cancels the token, waits for its tasks, and ends the subscription to signals. */
  [Symbol.asyncDispose](): Promise<void>;
}
