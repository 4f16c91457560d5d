import type { BasicAdapter } from "../core/adapter.ts";
import { describeError } from "../core/describe_error.ts";
import { ReloadError } from "../core/error.ts";
import type { ListenOptions } from "../core/options.ts";

/** What the signals do. */
export interface SignalHandlers {
  reload(signal: string): void;
  shutdown(signal: string): void;
}

/** The warning that the application or a library of its own handles the signal that reloads. */
export function explainOthers(signal: string, count: number): string {
  return `${count} other ${
    count === 1 ? "listener handles" : "listeners handle"
  } ${signal} in this process. Some libraries close the ` +
    `server then, at each reload: Nest's \`enableShutdownHooks()\`, close-with-grace. Leave ${signal} out there ` +
    '(`app.enableShutdownHooks(["SIGTERM"])`, `closeWithGrace({ skip: ["' + signal +
    '"] }, ...)`), or reload by another ' +
    'signal: `listen({ reloadSignals: ["SIGUSR2"] })`';
}

/**
 * How long a further shutdown signal counts as the first one, in milliseconds. A Ctrl-C reaches a
 * process several times where the terminal sends it to the whole process group and the tools above
 * the process (concurrently, nodemon, npm) pass it on as well.
 */
const SAME_SIGNAL_MS = 500;

/** The subscriptions to the signals. */
export interface Subscriptions {
  /** Ends them. */
  end(): void;
  /** Ends that of one signal: it does what it does without this library. */
  release(signal: string): void;
  /** How many other listeners a signal has, as far as that is known. */
  others(signal: string): number;
  /**
   * Does what the signal does without this library: ends the process, unless somebody else handles
   * the signal.
   */
  raise(signal: string): void;
}

/**
 * Subscribes to the signals. The second shutdown signal ends the process at once.
 *
 * @throws {ReloadError} When a signal cannot be handled; nothing stays subscribed then.
 */
export function subscribe(
  adapter: BasicAdapter,
  options: ListenOptions,
  handlers: SignalHandlers,
): Subscriptions {
  /** What ends the subscription to a signal, and its handler. */
  const subscriptions = new Map<string, { end: () => void; handler: () => void }>();
  const self: Subscriptions = {
    end() {
      for (const { end } of subscriptions.values()) end();
      subscriptions.clear();
    },
    release(signal) {
      subscriptions.get(signal)?.end();
      subscriptions.delete(signal);
    },
    others: (signal) => adapter.otherHandlers?.count(signal) ?? 0,
    raise(signal) {
      const { end, handler } = subscriptions.get(signal) ?? {};
      const others = adapter.otherHandlers;
      if (others === undefined || end === undefined || handler === undefined) return;
      end();
      if (others.isHandled(signal) === false) return others.raise(signal);
      handle(signal, handler); // The next one is the second.
    },
  };
  if (!adapter.canReload) return self;
  let firstShutdown: number | undefined;

  function handle(signal: string, handler: () => void): void {
    try {
      subscriptions.set(signal, { end: adapter.onSignal(signal, handler), handler });
    } catch (cause) {
      self.end();
      throw new ReloadError(
        "unsupported",
        `listen: ${signal} cannot be handled: ${describeError(cause)}`,
        { cause },
      );
    }
  }

  for (const signal of options.reloadSignals ?? adapter.reloadSignals) {
    handle(signal, () => handlers.reload(signal));
  }
  for (const signal of options.shutdownSignals ?? adapter.shutdownSignals) {
    handle(signal, () => {
      if (firstShutdown !== undefined) {
        if (adapter.now() - firstShutdown > SAME_SIGNAL_MS) {
          adapter.exit(128 + (adapter.signals[signal] ?? 0));
        }
        return;
      }
      handlers.shutdown(signal);
      // The handlers of the application, which may take their time, have run.
      firstShutdown = adapter.now();
    });
  }
  return self;
}

/** Calls back when an outer signal aborts, unless the own signal has aborted before. */
export function followSignal(
  outer: AbortSignal,
  own: AbortSignal,
  cancel: (reason: unknown) => void,
): void {
  const onAbort = () => cancel(outer.reason);
  if (outer.aborted) onAbort();
  else outer.addEventListener("abort", onAbort, { signal: own });
}
