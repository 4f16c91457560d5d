/** What a program can wait for on one platform. */
export interface PlatformSignals {
  /** The signals and their numbers. */
  signals: Readonly<Record<string, number>>;
  /** What reloads by default. */
  reloadSignals: readonly string[];
  /** What shuts down by default. */
  shutdownSignals: readonly string[];
}

// The signals with a default action of their own use are left out: faults (SIGSEGV ...), SIGCHLD, which the runtimes need
// themselves, and SIGKILL and SIGSTOP, which nobody can handle. signal(7).
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
const LINUX = { ...EVERYWHERE, SIGUSR1: 10, SIGUSR2: 12, SIGCONT: 18, SIGTSTP: 20, SIGURG: 23, SIGIO: 29, SIGPWR: 30 };
const BSD = { ...EVERYWHERE, SIGURG: 16, SIGTSTP: 18, SIGCONT: 19, SIGIO: 23, SIGUSR1: 30, SIGUSR2: 31 };
const WINDOWS = { SIGINT: 2, SIGBREAK: 21 };

/** The signals of an operating system, by the name that Node gives it (`process.platform`). */
export function platformSignals(platform: string): PlatformSignals {
  if (platform === "win32") return { signals: WINDOWS, reloadSignals: ["SIGBREAK"], shutdownSignals: ["SIGINT"] };
  return {
    signals: platform === "linux" || platform === "android" ? LINUX : BSD,
    reloadSignals: ["SIGHUP"],
    shutdownSignals: ["SIGINT", "SIGTERM"],
  };
}
