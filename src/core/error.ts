/**
 * Why a reload did not happen.
 *
 * - `unsupported`: there are no signals or no processes here ({@linkcode Token.canReload} is
 *   `false`).
 * - `cancelled`: this process was cancelled before or during the reload.
 * - `permission`: the runtime withholds a permission; the message names the flag to add.
 * - `start`: the new process could not be started at all.
 * - `exit`: the new process ended before it was in charge; see `exitCode` and `exitSignal`.
 * - `refused`: the new process reported that it cannot become ready.
 * - `timeout`: the new process was not in charge within `readyTimeout`.
 * - `silent`: the new process was in charge, and gave no sign of life any more: it hangs, or
 *   computes without a pause.
 * - `check`: the new process was in charge, and did not pass its check; `cause` is the reason.
 * - `protocol`: the new process sent a message that is not understood, or closed the channel.
 * - `pid-file`: the pid file belongs to another process, or cannot be written; `listen()` throws
 *   it.
 * - `handover`: something that is handed over, such as the state or a socket, could not be.
 */
export type ReloadErrorCode =
  | "unsupported"
  | "cancelled"
  | "permission"
  | "start"
  | "exit"
  | "refused"
  | "timeout"
  | "silent"
  | "check"
  | "protocol"
  | "pid-file"
  | "handover";

/** The details of a {@linkcode ReloadError} besides its message. */
export interface ReloadErrorDetails {
  /** The underlying error. */
  cause?: unknown;
  /** The new process, if one was started. */
  pid?: number;
  /** With the code `exit`: the new process's exit code, `null` when a signal ended it. */
  exitCode?: number | null;
  /** With the code `exit`: the signal that ended the new process, or `null`. */
  exitSignal?: string | null;
}

/**
 * What the errors of all copies of this class have: a process may import this library and require
 * it.
 */
const BRAND = Symbol.for("@js0/reload-self/ReloadError");

/**
 * A reload did not happen. The running process is unharmed: it keeps its token, its sockets and its
 * pid.
 *
 * @example
 * ```ts
 * import { listen, ReloadError } from "@js0/reload-self";
 *
 * const token = listen();
 * try {
 *   if (token.generation === 0) await token.reload();
 * } catch (error) {
 *   if (error instanceof ReloadError && error.code === "timeout") console.error("slow start", error.pid);
 * }
 * await token.cancelled();
 * ```
 */
export class ReloadError extends Error {
  /** Always `"ReloadError"`. */
  override readonly name = "ReloadError";
  /** The kind of failure, for programs. */
  readonly code: ReloadErrorCode;
  /** The new process, if one was started. It has been killed and is gone. */
  readonly pid: number | undefined;
  /** With the code `exit`: the new process's exit code, `null` when a signal ended it. */
  readonly exitCode: number | null | undefined;
  /** With the code `exit`: the signal that ended the new process, or `null`. */
  readonly exitSignal: string | null | undefined;

  static {
    Object.defineProperty(this.prototype, BRAND, { value: true });
  }

  /** `instanceof` knows the errors of another copy of this library too. */
  static override [Symbol.hasInstance](value: unknown): boolean {
    // The class does not name itself: esbuild would call it _ReloadError, which the runtime prints.
    if (!Object.hasOwn(this.prototype, BRAND)) {
      return Function.prototype[Symbol.hasInstance].call(this, value);
    }
    return typeof value === "object" && value !== null && BRAND in value;
  }

  /** Made by the library; an adapter of your own may throw one from `start()`. */
  constructor(code: ReloadErrorCode, message: string, details: ReloadErrorDetails = {}) {
    super(message, "cause" in details ? { cause: details.cause } : undefined);
    this.code = code;
    this.pid = details.pid;
    this.exitCode = details.exitCode;
    this.exitSignal = details.exitSignal;
  }
}
