/** Ending as a signal ends a process that does not handle it. */
import type { BasicAdapter } from "../../src/core/adapter.ts";
import type { BasicServiceAdapter } from "../../src/core/service_adapter.ts";

/** The way to end, and the handlers that are called then, too. */
export interface Raising {
  /** As {@linkcode BasicServiceAdapter.onExit}. */
  readonly onExit: BasicServiceAdapter["onExit"];
  /** As {@linkcode BasicAdapter.raise}. */
  readonly raise: NonNullable<BasicAdapter["raise"]>;
}

/**
 * Ends with the signal itself where that is possible: systemd takes it for a clean end, and the exit code 128 + its number for a failure.
 * Process 1 of a container is not ended by a signal that it does not handle.
 *
 * @param subscribe Has a handler called when this process exits by itself.
 * @param kill Sends the signal to this process. May throw.
 * @param exit Ends this process where the signal does not.
 */
export function createRaising(
  subscribe: (handler: () => void) => void,
  kill: (signal: string) => void,
  exit: (signal: string) => void,
): Raising {
  const handlers: (() => void)[] = [];
  return {
    onExit(handler) {
      handlers.push(handler);
      subscribe(handler);
    },
    raise(signal) {
      for (const handler of handlers) handler();
      try {
        kill(signal);
      } finally {
        exit(signal);
      }
    },
  };
}
