import type { ReloadError } from "./error.ts";
import type { CancelReason } from "./token.ts";

/**
 * What asked for a reload: a signal, `token.reload()`, or the predecessor, which passes a signal
 * on.
 */
export type ReloadCause = { by: "signal"; signal: string } | { by: "call" } | { by: "predecessor" };

/** The events that `onEvent` receives. Times are in milliseconds. */
export type ReloadEvent =
  /** A reload begins. */
  | { type: "reload-begin"; cause: ReloadCause; generation: number }
  /**
   * A reload was asked for while one is under way, or before this process is in charge. It follows
   * later, once.
   */
  | { type: "reload-later"; cause: ReloadCause }
  /** The new process runs; it is not ready yet. */
  | { type: "successor-start"; pid: number; generation: number }
  /** The new process is ready. */
  | { type: "successor-ready"; pid: number; generation: number }
  /** The new process is in charge. For the probation this one can still take charge again. */
  | { type: "successor-in-charge"; pid: number; generation: number; milliseconds: number }
  /**
   * The reload is over: the token is cancelled next. `milliseconds`: until the new process was in
   * charge.
   */
  | { type: "reload-end"; pid: number; generation: number; milliseconds: number }
  /** The new process ended unasked, too late for this one to take charge again. */
  | { type: "successor-exit"; pid: number; exitCode: number | null; exitSignal: string | null }
  /**
   * The reload failed and is undone. This process goes on; if the new process was in charge, this
   * one is in charge again.
   */
  | { type: "reload-fail"; error: ReloadError; milliseconds: number; wasInCharge: boolean }
  /** A part of a failed reload could not be undone. The other parts and this process go on. */
  | { type: "rollback-fail"; handover: string; error: unknown }
  /**
   * A reload signal reached this process after it had handed over, and was passed on to its
   * successor.
   */
  | { type: "reload-pass-on"; pid: number }
  /**
   * A shutdown signal reached this process after it had handed over, and was passed on. This
   * process shuts down as well.
   */
  | { type: "shutdown-pass-on"; pid: number }
  /** A shutdown signal could not be passed on: the successor is gone. */
  | { type: "shutdown-ignore"; message: string }
  /** A reload signal was ignored: this process is shutting down, or its successor is gone. */
  | { type: "reload-ignore"; message: string }
  /** This process, a successor, is in charge: its predecessor handed over, or is gone. */
  | { type: "in-charge"; generation: number; predecessor: "handed over" | "gone" }
  /** The token is cancelled. */
  | { type: "cancel"; reason: CancelReason }
  /**
   * A reload of this program may lose connections, or something else is wrong. The message says
   * what to do.
   */
  | { type: "warning"; message: string }
  /**
   * Connections were moved to the new process; those that could not be are drained here. Once a
   * reload, if there were any. `idle`: those of HTTP that waited for a request; `live`: those of
   * `token.live()`, and WebSockets.
   */
  | {
    type: "connections-move";
    pid: number;
    moved: number;
    left: number;
    idle: { moved: number; left: number };
    live: { moved: number; left: number };
    milliseconds: number;
  }
  /**
   * Connections of a bound server, or requests of the fetch handlers, that had not ended after
   * `drainTimeout` were cut.
   */
  | { type: "drain-cut"; server: string; connections: number; milliseconds: number }
  /**
   * A tracked task rejected for another reason than being cancelled. `drained()` reports it too.
   */
  | { type: "task-fail"; name: string; error: unknown };

/** Receives lines for people; `console` is one. */
export interface Logger {
  /** Normal operation. */
  info(line: string): void;
  /** Worth a look some day. */
  warn(line: string): void;
  /** Failures. */
  error(line: string): void;
}
