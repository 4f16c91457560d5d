import type { ReloadError } from "../core/error.ts";
import type { ReloadCause } from "../core/event.ts";

/** A reload that was asked for while none could begin. */
export interface Queued {
  readonly cause: ReloadCause;
  /** The outcome, for all callers that asked for it. */
  readonly outcome: PromiseWithResolvers<number>;
}

/** The reloads that were asked for while none could begin. They become one. */
export interface ReloadQueue {
  /**
   * Resolves with the pid of the new process. Rejects when that reload fails, or when the queue is
   * cleared.
   */
  add(cause: ReloadCause): Promise<number>;
  /** Takes the reload out of the queue. */
  take(): Queued | undefined;
  /** Rejects what was asked for: this process will not reload any more. */
  clear(error: ReloadError): void;
}

/** An empty queue. */
export function createReloadQueue(): ReloadQueue {
  let queued: Queued | undefined;
  function take(): Queued | undefined {
    const taken = queued;
    queued = undefined;
    return taken;
  }
  return {
    add(cause) {
      queued ??= { cause, outcome: Promise.withResolvers() };
      return queued.outcome.promise;
    },
    take,
    clear: (error) => take()?.outcome.reject(error),
  };
}
