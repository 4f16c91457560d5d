import type { BasicAdapter } from "../core/adapter.ts";
import { describeError } from "../core/describe_error.ts";
import { ReloadError } from "../core/error.ts";
import type { ListenOptions } from "../core/options.ts";

/** What the signals do. */
export interface SignalHandlers {
  reload(signal: string): void;
  shutdown(signal: string): void;
}

/**
 * How long a further shutdown signal counts as the first one, in milliseconds. A Ctrl-C reaches a process several times where the terminal
 * sends it to the whole process group and the tools above the process (concurrently, nodemon, npm) pass it on as well.
 */
const SAME_SIGNAL_MS = 500;

/**
 * Subscribes to the signals. The second shutdown signal ends the process at once. Returns the way to end the subscription.
 *
 * @throws {ReloadError} When a signal cannot be handled; nothing stays subscribed then.
 */
export function subscribe(adapter: BasicAdapter, options: ListenOptions, handlers: SignalHandlers): () => void {
  const subscriptions: (() => void)[] = [];
  const unsubscribe = () => subscriptions.splice(0).forEach((end) => end());
  if (!adapter.canReload) return unsubscribe;
  let firstShutdown: number | undefined;

  function handle(signal: string, handler: () => void): void {
    try {
      subscriptions.push(adapter.onSignal(signal, handler));
    } catch (cause) {
      unsubscribe();
      throw new ReloadError("unsupported", `listen: ${signal} cannot be handled: ${describeError(cause)}`, { cause });
    }
  }

  for (const signal of options.reloadSignals ?? adapter.reloadSignals) handle(signal, () => handlers.reload(signal));
  for (const signal of options.shutdownSignals ?? adapter.shutdownSignals) {
    handle(signal, () => {
      if (firstShutdown !== undefined) {
        if (adapter.now() - firstShutdown > SAME_SIGNAL_MS) adapter.exit(128 + (adapter.signals[signal] ?? 0));
        return;
      }
      handlers.shutdown(signal);
      firstShutdown = adapter.now(); // The handlers of the application, which may take their time, have run.
    });
  }
  return unsubscribe;
}

/** Calls back when an outer signal aborts, unless the own signal has aborted before. */
export function followSignal(outer: AbortSignal, own: AbortSignal, cancel: (reason: unknown) => void): void {
  const onAbort = () => cancel(outer.reason);
  if (outer.aborted) onAbort();
  else outer.addEventListener("abort", onAbort, { signal: own });
}
