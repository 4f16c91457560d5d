import type { OtherHandlers } from "../../src/core/adapter.ts";
import type { BasicServiceAdapter } from "../../src/core/service_adapter.ts";
/** The signals of a platform. */
export interface PlatformSignals {
  /** The signals that a program can handle, and their numbers. */
  signals: Readonly<Record<string, number>>;
  /** The signals that reload by default. */
  reloadSignals: readonly string[];
  /** The signals that shut down by default. */
  shutdownSignals: readonly string[];
}

// Left out are faults (SIGSEGV ...), SIGCHLD, which the runtimes need themselves, and SIGKILL and
// SIGSTOP, which cannot be handled; signal(7).
const EVERYWHERE = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGQUIT: 3,
  SIGALRM: 14,
  SIGTERM: 15,
  SIGTTIN: 21,
  SIGTTOU: 22,
  SIGXCPU: 24,
  SIGXFSZ: 25,
  SIGVTALRM: 26,
  SIGWINCH: 28,
};
const LINUX = {
  ...EVERYWHERE,
  SIGUSR1: 10,
  SIGUSR2: 12,
  SIGCONT: 18,
  SIGTSTP: 20,
  SIGURG: 23,
  SIGIO: 29,
  SIGPWR: 30,
};
const BSD = {
  ...EVERYWHERE,
  SIGURG: 16,
  SIGTSTP: 18,
  SIGCONT: 19,
  SIGIO: 23,
  SIGUSR1: 30,
  SIGUSR2: 31,
};
const WINDOWS = { SIGINT: 2, SIGBREAK: 21 };

/** The signals of a platform, by its name on Node (`process.platform`). */
export function platformSignals(platform: string): PlatformSignals {
  if (platform === "win32") {
    return { signals: WINDOWS, reloadSignals: ["SIGBREAK"], shutdownSignals: ["SIGINT"] };
  }
  return {
    signals: platform === "linux" || platform === "android" ? LINUX : BSD,
    reloadSignals: ["SIGHUP"],
    shutdownSignals: ["SIGINT", "SIGTERM"],
  };
}

/** The way to end, and the handlers that are called then, too. */
export interface Raising {
  /** As {@linkcode BasicServiceAdapter.onExit}. */
  readonly onExit: BasicServiceAdapter["onExit"];
  /** As {@linkcode OtherHandlers.raise}. */
  readonly raise: OtherHandlers["raise"];
}

/**
 * Ends with the signal itself where that is possible: systemd takes it for a clean end, and the
 * exit code 128 + its number for a failure. Process 1 of a container is not ended by a signal that
 * it does not handle.
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
