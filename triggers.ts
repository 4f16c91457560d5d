/**
 * Reasons to reload: a file has changed, the process has grown too large, some time has passed. A
 * reload that fails is tried again later, with growing pauses, and does not end anything. None of
 * this keeps the process alive.
 *
 * @example
 * ```ts
 * import { listen } from "@js0/reload-self";
 * import { reloadAbove, reloadEvery, reloadOnChange } from "@js0/reload-self/triggers";
 *
 * const token = listen();
 * reloadOnChange(token, ["."]);
 * reloadAbove(token, { memory: "500M" });
 * reloadEvery(token, "0 4 * * *");
 * token.cancel();
 * ```
 *
 * @module
 */
import process from "node:process";
import { checkOptions } from "./src/core/check.ts";
import { ReloadError } from "./src/core/error.ts";
import type { Token } from "./src/core/token.ts";
import { type Attempts, createAttempts } from "./src/triggers/attempts.ts";
import { MEMORY_CHECK_MS, MEMORY_PAUSE_MS, watchMemory } from "./src/triggers/memory.ts";
import { createSchedule } from "./src/triggers/schedule.ts";
import { repeat } from "./src/triggers/timer.ts";
import { checkSize, checkTime } from "./src/core/units.ts";
import { checkPaths, DEFAULT_DEBOUNCE_MS, watchPaths } from "./src/triggers/watch.ts";

/** The part of a token that is needed. */
export type ReloadableToken = Pick<Token, "reload" | "canReload">;

/** What every trigger can be told. */
export interface TriggerOptions {
  /** Receives a line each time, for example `console`. Default: none. */
  logger?: { info(line: string): void };
}

/** The options of `reloadOnChange()`. */
export interface ChangeOptions extends TriggerOptions {
  /**
   * How long nothing may change before the reload: milliseconds, or a time such as `"1s"`. Default:
   * 300.
   */
  debounce?: number | string;
}

/** The options of `reloadAbove()`. */
export interface LimitOptions extends TriggerOptions {
  /**
   * The size of the process in memory (RSS) beyond which it reloads: bytes, or a size such as
   * `"500M"`.
   */
  memory: number | string;
  /**
   * The least time between two reloads, and after the start: milliseconds, or a time such as
   * `"5m"`. Default: one minute.
   */
  pause?: number | string;
}

/** A reason to reload that was set up. */
export interface Trigger {
  /** Ends it. */
  stop(): void;
}

const NONE: Trigger = { stop() {} };

function attemptsFor(token: ReloadableToken, { logger }: TriggerOptions): Attempts {
  return createAttempts({
    reload: () => token.reload(),
    isFinal: (error) =>
      error instanceof ReloadError && (error.code === "cancelled" || error.code === "unsupported"),
    log: (line) => logger?.info(`reload-self: process ${process.pid}: ${line}`),
  });
}

function setUp(attempts: Attempts, stop: () => void): Trigger {
  return {
    stop() {
      stop();
      attempts.stop();
    },
  };
}

/**
 * Reloads when a file changes, or something in a folder: also one that an editor replaces, a link
 * that leads elsewhere (a deploy, a ConfigMap of Kubernetes), a certificate that was renewed. What
 * is in `node_modules` and `.git` below a folder is left out.
 *
 * @param paths Files and folders. Deno needs `--allow-read` for them.
 * @throws {TypeError} When there is nothing at a path, or an option is wrong.
 *
 * @example
 * ```ts
 * import { listen } from "@js0/reload-self";
 * import { reloadOnChange } from "@js0/reload-self/triggers";
 *
 * const token = listen();
 * reloadOnChange(token, ["."], { debounce: "1s" });
 * token.cancel();
 * ```
 */
export function reloadOnChange(
  token: ReloadableToken,
  paths: readonly string[],
  options: ChangeOptions = {},
): Trigger {
  checkOptions("reloadOnChange", options, ["debounce", "logger"]);
  if (!Array.isArray(paths)) throw new TypeError("reloadOnChange: the paths must be an array");
  const debounce = checkTime("reloadOnChange: debounce", options.debounce ?? DEFAULT_DEBOUNCE_MS);
  checkPaths(paths);
  if (!token.canReload) return NONE;
  const attempts = attemptsFor(token, options);
  return setUp(
    attempts,
    watchPaths(paths, debounce, (path) => void attempts.begin(`${path} has changed`, true)),
  );
}

/**
 * Reloads when this process has grown beyond a limit: a leak ends without an outage.
 *
 * @throws {TypeError} When a limit is wrong.
 *
 * @example
 * ```ts
 * import { listen } from "@js0/reload-self";
 * import { reloadAbove } from "@js0/reload-self/triggers";
 *
 * const token = listen();
 * reloadAbove(token, { memory: "500M", pause: "10m" });
 * token.cancel();
 * ```
 */
export function reloadAbove(token: ReloadableToken, options: LimitOptions): Trigger {
  checkOptions("reloadAbove", options, ["memory", "pause", "logger"]);
  const most = checkSize("reloadAbove: memory", options.memory);
  const pause = checkTime("reloadAbove: pause", options.pause ?? MEMORY_PAUSE_MS);
  if (!token.canReload) return NONE;
  const attempts = attemptsFor(token, options);
  const size = () => process.memoryUsage().rss;
  return setUp(
    attempts,
    watchMemory({ size, most, pause, interval: MEMORY_CHECK_MS, exceeded: attempts.begin }),
  );
}

/**
 * Reloads each time that some time has passed since the start, or by a pattern of cron.
 *
 * @param when Milliseconds, a time such as `"24h"`, or a pattern such as `"0 4 * * *"`, in the time
 * zone of the machine.
 * @throws {TypeError} When it is none of them.
 *
 * @example
 * ```ts
 * import { listen } from "@js0/reload-self";
 * import { reloadEvery } from "@js0/reload-self/triggers";
 *
 * const token = listen();
 * reloadEvery(token, "24h", { logger: console });
 * token.cancel();
 * ```
 */
export function reloadEvery(
  token: ReloadableToken,
  when: number | string,
  options: TriggerOptions = {},
): Trigger {
  checkOptions("reloadEvery", options, ["logger"]);
  const next = createSchedule("reloadEvery: the time", when);
  if (!token.canReload) return NONE;
  const attempts = attemptsFor(token, options);
  return setUp(attempts, repeat(next, () => attempts.begin(`it is time (${when})`)));
}
