import type { Adapter, BasicAdapter } from "./adapter.ts";
import { checkMilliseconds, checkOptions, show } from "./check.ts";
import type { Logger, ReloadEvent } from "./event.ts";

/** Default of `readyTimeout`, in milliseconds. */
export const DEFAULT_READY_TIMEOUT_MS = 60_000;
/** Default of `idleGrace`, in milliseconds. Clients that ask more often lose nothing. */
export const DEFAULT_IDLE_GRACE_MS = 5_000;
/** The most of it at a shutdown, which nobody takes over from. */
export const SHUTDOWN_IDLE_GRACE_MS = 1_000;
/** Default of `probation` for a program that listens, in milliseconds. */
export const DEFAULT_PROBATION_MS = 1_000;
/** Default of `checkTimeout`, in milliseconds. */
export const DEFAULT_CHECK_TIMEOUT_MS = 5_000;
/** Default of `drainTimeout`, in milliseconds. */
export const DEFAULT_DRAIN_TIMEOUT_MS = 30_000;

/** The options of `listen()`. Everything has a default. */
export interface ListenOptions {
  /**
   * The signals that reload. Default: `["SIGHUP"]`, on Windows `["SIGBREAK"]`. `[]`: none, only
   * `token.reload()`.
   */
  reloadSignals?: readonly string[];
  /**
   * The signals that cancel the token; a second one, more than half a second later, ends the
   * process at once with 128 + its number. Default: `["SIGINT", "SIGTERM"]`, on Windows
   * `["SIGINT"]`. `[]`: none.
   */
  shutdownSignals?: readonly string[];
  /**
   * When this process can take over from its predecessor.
   *
   * - `"auto"` (default): when it listens on all addresses of its predecessor; if there are none,
   *   in the turn of the event loop after `listen()`. A program that listens on fewer addresses on
   *   purpose calls `token.ready()`.
   * - `"manual"`: when `token.ready()` is called.
   * - a promise: when it resolves. When it rejects, the new process gives up and the old one goes
   *   on. Without a predecessor the rejection is left unhandled, so that the runtime ends the
   *   process as usual.
   */
  ready?: "auto" | "manual" | PromiseLike<unknown>;
  /**
   * Milliseconds from the beginning of a reload until the new process must be in charge. Default:
   * 60 000.
   */
  readyTimeout?: number;
  /**
   * Milliseconds of probation for a new process that is in charge: if it dies, the old process
   * takes charge again. Meanwhile the old process answers on its connections, and its token is not
   * cancelled. Default: 1 000, and 0 for a program that listens nowhere.
   */
  probation?: number;
  /**
   * Milliseconds for which a replaced process keeps idle connections open that cannot move (those
   * with TLS), for one more request, which it answers with `Connection: close`: what is on the wire
   * when a connection closes is lost. At a shutdown, 1 000 at most. Default: 5 000.
   */
  idleGrace?: number;
  /**
   * Judges a new version by its answers: called in the new process when it is in charge and alone
   * accepts connections. When it throws, rejects, or returns `false` or a `Response` with another
   * status than 2xx or 3xx, the old process takes charge again, and the reload has failed. The new
   * process finishes what it has begun to answer, for ten seconds at most. The signal fires when
   * the time is over. A string is an address that has to answer with 2xx or 3xx:
   * `"http://127.0.0.1:8000/health"`. The first process is not checked. Default: none.
   */
  check?: string | ((signal: AbortSignal) => unknown);
  /**
   * Milliseconds that `check` may take; the probation lasts for `probation` after it. Default: 5
   * 000.
   */
  checkTimeout?: number;
  /**
   * Milliseconds from the cancellation until the remaining connections of bound servers, and the
   * remaining requests of `token.fetch()`, are cut. Default: 30 000.
   */
  drainTimeout?: number;
  /**
   * Returns the state that the new process gets as `token.inheritedState`: any JSON value, up to 64
   * MiB. Called when the new process is ready, right before it is in charge. When it throws, the
   * reload fails.
   */
  saveState?: () => unknown;
  /**
   * A file with the pid of the process in charge. It is replaced in one step, readable by all
   * users, and removed when a process ends without a successor. `listen()` throws when it names
   * another process that is running. Default: none.
   */
  pidFile?: string;
  /**
   * Keep a status file for `reload-self status` and `reload-self reload`, in a folder of this user
   * alone below XDG_RUNTIME_DIR or the folder for temporary files. It is removed when the process
   * ends. Deno needs all permissions for it. Default: `true`.
   */
  status?: boolean;
  /** Cancels the token when it aborts. */
  signal?: AbortSignal;
  /**
   * Variables to set for the new process, or, where `undefined`, to remove from the environment
   * that it inherits.
   */
  env?: Readonly<Record<string, string | undefined>>;
  /** Starts this instead of the same program: the executable, then its arguments. */
  command?: readonly string[];
  /** Receives lines for people, for example `console`. Default: none, but failures go to stderr. */
  logger?: Logger;
  /** Called for everything that happens. */
  onEvent?: (event: ReloadEvent) => void;
  /** Replaces the runtime, for tests. Default: the adapter of this runtime. */
  adapter?: Adapter;
}

const KNOWN: readonly (keyof ListenOptions)[] = [
  "reloadSignals",
  "shutdownSignals",
  "ready",
  "readyTimeout",
  "probation",
  "idleGrace",
  "check",
  "checkTimeout",
  "drainTimeout",
  "saveState",
  "pidFile",
  "status",
  "signal",
  "env",
  "command",
  "logger",
  "onEvent",
  "adapter",
];

/** Throws a TypeError that names the first option that is wrong. */
export function checkListenOptions(options: ListenOptions, adapter: BasicAdapter): void {
  checkOptions("listen", options, KNOWN);
  const { ready, readyTimeout, probation, idleGrace, check, checkTimeout, drainTimeout } = options;
  const { saveState, pidFile, status, signal, env, command, logger, onEvent } = options;
  const seen = new Set<string>();
  for (const name of ["reloadSignals", "shutdownSignals"] as const) {
    const signals = options[name];
    if (signals === undefined) continue;
    if (!Array.isArray(signals)) fail(name, "an array of signal names", signals);
    for (const signal of signals) checkSignal(name, signal, adapter, seen);
  }
  if (
    ready !== undefined && ready !== "auto" && ready !== "manual" &&
    typeof (ready as PromiseLike<unknown> | null)?.then !== "function"
  ) {
    fail("ready", `"auto", "manual" or a promise`, ready);
  }
  if (readyTimeout !== undefined) checkMilliseconds("listen: readyTimeout", readyTimeout);
  if (probation !== undefined && probation !== 0) checkMilliseconds("listen: probation", probation);
  if (idleGrace !== undefined && idleGrace !== 0) checkMilliseconds("listen: idleGrace", idleGrace);
  if (check !== undefined && typeof check !== "function" && !isWebAddress(check)) {
    fail("check", `a function, or an address such as "http://127.0.0.1:8000/health"`, check);
  }
  if (checkTimeout !== undefined) checkMilliseconds("listen: checkTimeout", checkTimeout);
  if (drainTimeout !== undefined) checkMilliseconds("listen: drainTimeout", drainTimeout);
  if (saveState !== undefined && typeof saveState !== "function") {
    fail("saveState", "a function", saveState);
  }
  if (pidFile !== undefined) {
    checkText("pidFile", pidFile);
    if (pidFile === "") fail("pidFile", "the path of a file", pidFile);
  }
  if (status !== undefined && typeof status !== "boolean") fail("status", "true or false", status);
  if (signal !== undefined && !(signal instanceof AbortSignal)) {
    fail("signal", "an AbortSignal", signal);
  }
  if (env !== undefined) checkEnv(env);
  if (command !== undefined) {
    if (!Array.isArray(command) || command.length === 0 || command[0] === "") {
      fail("command", "an executable and its arguments, as an array of strings", command);
    }
    for (const part of command) checkText("command", part);
  }
  if (logger !== undefined) {
    for (const level of ["info", "warn", "error"] as const) {
      if (typeof (logger as Logger | null)?.[level] !== "function") {
        fail("logger", "an object with the methods info, warn and error, such as console", logger);
      }
    }
  }
  if (onEvent !== undefined && typeof onEvent !== "function") {
    fail("onEvent", "a function", onEvent);
  }
}

/** Whether this is an address of HTTP. */
export function isWebAddress(value: unknown): value is string {
  return typeof value === "string" && /^https?:$/.test(URL.parse(value)?.protocol ?? "");
}

/** Whether the options of two calls of `listen()` are the same. */
export function sameOptions(a: ListenOptions, b: ListenOptions): boolean {
  return KNOWN.every((name) => sameValue(a[name], b[name]));
}

function sameValue(a: unknown, b: unknown): boolean {
  if (Object.is(a, b)) return true;
  if (!isPlain(a) || !isPlain(b)) return false;
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => Object.is(a[key], b[key]));
}

function isPlain(value: unknown): value is Record<string, unknown> {
  if (typeof value !== "object" || value === null) return false;
  return Array.isArray(value) || Object.getPrototypeOf(value) === Object.prototype;
}

function checkSignal(
  option: string,
  signal: unknown,
  adapter: BasicAdapter,
  seen: Set<string>,
): void {
  if (typeof signal !== "string") fail(option, "an array of signal names", signal);
  if (signal === "SIGKILL" || signal === "SIGSTOP") {
    throw new TypeError(`listen: ${option}: no process can handle ${signal}`);
  }
  // An adapter without signals subscribes to none: any name is fine.
  if (adapter.canReload && !Object.hasOwn(adapter.signals, signal)) {
    const known = Object.keys(adapter.signals).join(", ");
    throw new TypeError(
      `listen: ${option}: ${
        show(signal)
      } is no signal that can be handled here; those are ${known}`,
    );
  }
  if (seen.has(signal)) throw new TypeError(`listen: ${option}: ${signal} is named twice`);
  seen.add(signal);
}

function checkEnv(env: unknown): void {
  if (!isPlain(env) || Array.isArray(env)) fail("env", "an object of strings", env);
  for (const [name, value] of Object.entries(env)) {
    if (name === "" || name.includes("=") || name.includes("\0")) {
      throw new TypeError(`listen: env: ${show(name)} cannot be the name of a variable`);
    }
    if (value !== undefined) checkText(`env.${name}`, value);
  }
}

/** The kernel ends arguments and variables at a NUL. */
function checkText(option: string, value: unknown): void {
  if (typeof value !== "string") fail(option, "a string", value);
  if (value.includes("\0")) {
    throw new TypeError(`listen: ${option} must not contain a NUL character`);
  }
}

function fail(option: string, expected: string, value: unknown): never {
  throw new TypeError(`listen: ${option} must be ${expected}, not ${show(value)}`);
}
