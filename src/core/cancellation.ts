import type { Clock } from "./adapter.ts";
import { checkMilliseconds, checkOptions, show } from "./check.ts";
import { createTasks, type Tasks } from "./tasks.ts";
import type {
  CancellationToken,
  CancelReason,
  Drained,
  DrainOptions,
  TaskFailure,
  TrackOptions,
} from "./token.ts";

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

/** What hears of a token. */
export interface CancellationHandlers {
  /** Called for each task that fails, those of child tokens included. */
  onFail(failure: TaskFailure): void;
  /** Called when the token is cancelled, before the application hears of it. */
  onCancel?(reason: CancelReason): void;
}

/**
 * The signal of a token. Made at the first use: that takes a millisecond, and many programs never
 * look at it before their end.
 */
interface LazySignal {
  get(): AbortSignal;
  abort(): void;
}

function createLazySignal(why: () => CancelReason | undefined): LazySignal {
  let controller: AbortController | undefined;
  return {
    get() {
      if (controller === undefined) {
        controller = new AbortController();
        if (why() !== undefined) controller.abort(why());
      }
      return controller.signal;
    },
    abort: () => controller?.abort(why()),
  };
}

/** Throws a TypeError unless it can be tracked. */
function checkTask(task: unknown, options: TrackOptions): void {
  checkOptions("track", options, ["name"]);
  if (options.name !== undefined && typeof options.name !== "string") {
    throw new TypeError(`track: name must be a string, not ${show(options.name)}`);
  }
  if (
    typeof task !== "function" && typeof (task as PromiseLike<unknown> | null)?.then !== "function"
  ) {
    throw new TypeError(`track: the task must be a promise or a function, not ${show(task)}`);
  }
}

/** Whether this is the error of a task that gave up because its token was cancelled. */
function isCancellation(error: unknown, why: CancelReason | undefined): boolean {
  return why !== undefined &&
    (error === why || (error instanceof Error && error.name === "AbortError"));
}

/** Creates a token. */
export function createCancellation(
  clock: Clock,
  { onFail, onCancel }: CancellationHandlers,
  parent?: Parent,
): Cancellation {
  let why: CancelReason | undefined;
  const signal = createLazySignal(() => why);
  const cancelled = Promise.withResolvers<CancelReason>();
  const tasks = createTasks(clock, onFail);
  let release: (() => void) | undefined;
  let unnamed = 0;

  function cancel(reason: CancelReason): void {
    if (why !== undefined) return;
    why = Object.freeze(reason);
    parent?.signal.removeEventListener("abort", follow);
    release?.();
    onCancel?.(why);
    signal.abort();
    cancelled.resolve(why);
  }
  const follow = () => cancel(parent?.signal.reason as CancelReason);
  // The parent waits for the tasks of its children too. Whether a rejection means "cancelled"
  // depends on the token of the task.
  const add: Tasks["add"] = (...task) => {
    tasks.add(...task);
    parent?.tasks.add(...task);
  };

  const token: CancellationToken = {
    get signal() {
      return signal.get();
    },
    get isCancelled() {
      return why !== undefined;
    },
    cancelled() {
      if (why === undefined) release ??= clock.hold();
      return cancelled.promise;
    },
    cancel: (reason) =>
      cancel(reason === undefined ? { kind: "shutdown" } : { kind: "shutdown", reason }),
    child: () =>
      createCancellation(clock, { onFail() {} }, { signal: signal.get(), tasks: { ...tasks, add } })
        .token,
    track(task, options = {}) {
      checkTask(task, options);
      const name = options.name ?? (typeof task === "function" ? task.name : "");
      const promise = typeof task === "function"
        ? (async () => await task(signal.get()))()
        : Promise.resolve(task);
      add(name || `task ${++unnamed}`, promise, (error) => isCancellation(error, why));
      return promise;
    },
    drained: (options) => drained(token, tasks, options),
    async [Symbol.asyncDispose]() {
      token.cancel();
      await token.drained();
    },
  };
  if (parent?.signal.aborted) follow();
  else parent?.signal.addEventListener("abort", follow);
  return { token, cancel };
}

async function drained(
  token: CancellationToken,
  tasks: Tasks,
  options: DrainOptions = {},
): Promise<Drained> {
  checkOptions("drained", options, ["timeout"]);
  if (options.timeout !== undefined) checkMilliseconds("timeout", options.timeout);
  await token.cancelled();
  return await tasks.ended(options.timeout);
}
