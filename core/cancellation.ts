import type { Clock } from "./adapter.ts";
import { checkMilliseconds, checkOptions, show } from "./check.ts";
import { createTasks, type Tasks } from "./tasks.ts";
import type { CancellationToken, CancelReason, TaskFailure } from "./token.ts";

/** A token, and the right to cancel it with any reason. */
export interface Cancellation {
  /** The token that the application gets. */
  readonly token: CancellationToken;
  /** Cancels with this reason. Does nothing when the token is cancelled already. */
  cancel(reason: CancelReason): void;
}

interface Parent {
  signal: AbortSignal;
  tasks: Tasks;
}

/** Creates a token. `onFail` is called for each task that fails, those of child tokens included. */
export function createCancellation(
  clock: Clock,
  onFail: (failure: TaskFailure) => void,
  parent?: Parent,
): Cancellation {
  const controller = new AbortController();
  const { signal } = controller;
  const cancelled = Promise.withResolvers<CancelReason>();
  const tasks = createTasks(clock, onFail);
  let release: (() => void) | undefined;
  let unnamed = 0;

  /** Is this the error of a task that gave up because the token was cancelled? */
  function isCancellation(error: unknown): boolean {
    return signal.aborted && (error === signal.reason || (error instanceof Error && error.name === "AbortError"));
  }

  function cancel(reason: CancelReason): void {
    if (signal.aborted) return;
    parent?.signal.removeEventListener("abort", follow);
    release?.();
    controller.abort(Object.freeze(reason));
    cancelled.resolve(reason);
  }

  function follow(): void {
    cancel(parent?.signal.reason as CancelReason);
  }

  // The parent waits for the tasks of its children too. Whether a rejection means "cancelled" depends on the token of the task.
  const add: Tasks["add"] = (...task) => {
    tasks.add(...task);
    parent?.tasks.add(...task);
  };

  const token: CancellationToken = {
    signal,
    get isCancelled() {
      return signal.aborted;
    },
    cancelled() {
      if (!signal.aborted) release ??= clock.hold();
      return cancelled.promise;
    },
    cancel(reason) {
      cancel(reason === undefined ? { kind: "shutdown" } : { kind: "shutdown", reason });
    },
    child() {
      return createCancellation(clock, () => {}, { signal, tasks: { ...tasks, add } }).token;
    },
    track(task, options = {}) {
      checkOptions("track", options, ["name"]);
      if (options.name !== undefined && typeof options.name !== "string") {
        throw new TypeError(`track: name must be a string, not ${show(options.name)}`);
      }
      if (typeof task !== "function" && typeof task?.then !== "function") {
        throw new TypeError(`track: the task must be a promise or a function, not ${show(task)}`);
      }
      const name = options.name ?? (typeof task === "function" ? task.name : "");
      const promise = typeof task === "function" ? (async () => await task(signal))() : Promise.resolve(task);
      add(name || `task ${++unnamed}`, promise, isCancellation);
      return promise;
    },
    async drained(options = {}) {
      checkOptions("drained", options, ["timeout"]);
      if (options.timeout !== undefined) checkMilliseconds("timeout", options.timeout);
      await token.cancelled();
      return await tasks.ended(options.timeout);
    },
    async [Symbol.asyncDispose]() {
      token.cancel();
      await token.drained();
    },
  };

  if (parent?.signal.aborted) follow();
  else parent?.signal.addEventListener("abort", follow);
  return { token, cancel };
}
