import type { Clock } from "./adapter.ts";
import type { Drained, TaskFailure } from "./token.ts";

/** The tasks of one token. */
export interface Tasks {
  /** Counts a task until it settles. `expected` recognises the rejections that are no failure. */
  add(name: string, task: Promise<unknown>, expected: (error: unknown) => boolean): void;
  /** Resolves when no task runs, or after the timeout. */
  ended(timeout?: number): Promise<Drained>;
}

/** A server may track every request: the list of failures must not grow without end. */
const FAILURES_KEPT = 100;

/** Counts tasks. `onFail` is called for each that fails. */
export function createTasks(clock: Clock, onFail: (failure: TaskFailure) => void): Tasks {
  const running = new Map<Promise<unknown>, string>();
  const failed: TaskFailure[] = [];
  const waiting = new Set<() => void>();

  // A task that ends may be about to start another: the code that awaits it runs before the count
  // is final.
  function wakeIfDone(): void {
    clock.timer(0, () => {
      if (running.size > 0) return;
      for (const wake of waiting) wake();
    });
  }

  return {
    add(name, task, expected) {
      // The same promise may be tracked twice; the key is therefore a promise of our own.
      const settled: Promise<void> = task.then(() => {}, (error: unknown) => {
        if (expected(error)) return;
        const failure = { name, error };
        failed.push(failure);
        if (failed.length > FAILURES_KEPT) failed.shift();
        onFail(failure);
      }).then(() => {
        running.delete(settled);
        if (running.size === 0 && waiting.size > 0) wakeIfDone();
      });
      running.set(settled, name);
    },
    ended(timeout) {
      return new Promise((resolve) => {
        let stopTimer = () => {};
        const wake = () => {
          waiting.delete(wake);
          stopTimer();
          resolve({
            complete: running.size === 0,
            running: [...running.values()],
            failed: [...failed],
          });
        };
        if (timeout !== undefined) stopTimer = clock.timer(timeout, wake);
        waiting.add(wake);
        if (running.size === 0) wakeIfDone();
      });
    },
  };
}
