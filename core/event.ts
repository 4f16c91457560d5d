import type { ReloadError } from "./error.ts";
import type { CancelReason } from "./token.ts";

/** Who asked for a reload: a signal, `token.reload()`, or the predecessor passing a signal on. */
export type ReloadCause = { by: "signal"; signal: string } | { by: "call" } | { by: "predecessor" };

/** What `onEvent` is told, in the order in which it happens. Times are in milliseconds. */
export type ReloadEvent =
  /** A reload begins. */
  | { type: "reload-begin"; cause: ReloadCause; generation: number }
  /** A reload was asked for while one is under way, or before this process is in charge. It is done later, once. */
  | { type: "reload-later"; cause: ReloadCause }
  /** The new process runs; it is not ready yet. */
  | { type: "successor-start"; pid: number; generation: number }
  /** The new process says that it is ready. */
  | { type: "successor-ready"; pid: number; generation: number }
  /** The new process is in charge. This one can still take charge again, for the settle time. */
  | { type: "successor-in-charge"; pid: number; generation: number; milliseconds: number }
  /** The reload is over: the token is cancelled next. `milliseconds` is how long it took until the new process was in charge. */
  | { type: "reload-end"; pid: number; generation: number; milliseconds: number }
  /** The new process ended without having been asked to, when this one could not take charge again any more. */
  | { type: "successor-exit"; pid: number; exitCode: number | null; exitSignal: string | null }
  /** The reload failed and is undone. This process goes on; where the new one was in charge, this one is so again. */
  | { type: "reload-fail"; error: ReloadError; milliseconds: number; wasInCharge: boolean }
  /** A participant could not undo what it did; the other participants and this process go on. */
  | { type: "rollback-fail"; participant: string; error: unknown }
  /** A reload signal reached this process after it had handed over, and was passed on. */
  | { type: "reload-pass-on"; pid: number }
  /** A shutdown signal reached this process after it had handed over, and was passed on; this one shuts down as well. */
  | { type: "shutdown-pass-on"; pid: number }
  /** A shutdown signal could not be passed on: the successor is gone. */
  | { type: "shutdown-ignore"; message: string }
  /** A reload signal could not be served: this process is shutting down, or its successor is gone. */
  | { type: "reload-ignore"; message: string }
  /** This process, a successor, is in charge: its predecessor handed over, or is gone. */
  | { type: "in-charge"; generation: number; predecessor: "handed over" | "gone" }
  /** The token is cancelled. */
  | { type: "cancel"; reason: CancelReason }
  /** A reload of this program can lose connections, or something else is not as it should be; the message says what mends it. */
  | { type: "warning"; message: string }
  /** Connections that had not ended after `drainTimeout` were cut. */
  | { type: "drain-cut"; server: string; connections: number; milliseconds: number }
  /** A tracked task rejected for another reason than being cancelled. `drained()` reports it too. */
  | { type: "task-fail"; name: string; error: unknown };

/** Where lines for people go; `console` is one. */
export interface Logger {
  /** What happened as it should. */
  info(line: string): void;
  /** What somebody should look at some day. */
  warn(line: string): void;
  /** What failed. */
  error(line: string): void;
}
