/** Options by the environment, for a program that does not call listen() itself. */
import { LONGEST_MS } from "../core/check.ts";
import type { ListenOptions } from "../core/options.ts";
import { parseTime } from "../core/units.ts";

/** The options, and the least that is written to stderr. */
export interface AutoOptions {
  readonly listen: ListenOptions;
  readonly level: "info" | "warn" | "error";
}

type Get = (name: string) => string | undefined;

/**
 * Reads a time such as `500ms`, `10s` or `2m`, which may be 0. Throws a TypeError that names the
 * variable.
 */
export function readTime(name: string, text: string): number {
  const milliseconds = Math.round(parseTime(text.trim()) ?? NaN);
  if (milliseconds <= LONGEST_MS) return milliseconds;
  const bare = /^\d+$/.test(text.trim()) ? `: write ${text.trim()}s or ${text.trim()}ms` : "";
  throw new TypeError(
    `${name} must be a time such as 500ms, 10s or 2m, not ${JSON.stringify(text)}${bare}`,
  );
}

function parseSignals(name: string, text: string): string[] {
  const signals = text.split(",").map((signal) => signal.trim()).filter((signal) => signal !== "");
  const wrong = signals.find((signal) => !/^SIG[A-Z0-9]+$/.test(signal));
  if (wrong !== undefined) {
    throw new TypeError(
      `${name} must be names of signals such as SIGUSR2, not ${JSON.stringify(wrong)}`,
    );
  }
  return signals;
}

function oneOf<T extends string>(name: string, text: string, values: readonly T[]): T {
  const found = values.find((value) => value === text.trim());
  if (found !== undefined) return found;
  throw new TypeError(`${name} must be ${values.join(" or ")}, not ${JSON.stringify(text)}`);
}

/** The variables, and what they set. The README of each option is that of `listen()`. */
const VARIABLES: Readonly<Record<string, (name: string, text: string) => ListenOptions>> = {
  RELOAD_SELF_DRAIN_TIMEOUT: (name, text) => ({ drainTimeout: Math.max(1, readTime(name, text)) }),
  RELOAD_SELF_READY_TIMEOUT: (name, text) => ({ readyTimeout: Math.max(1, readTime(name, text)) }),
  RELOAD_SELF_PROBATION: (name, text) => ({ probation: readTime(name, text) }),
  RELOAD_SELF_IDLE_GRACE: (name, text) => ({ idleGrace: readTime(name, text) }),
  RELOAD_SELF_PID_FILE: (_, text) => ({ pidFile: text }),
  RELOAD_SELF_RELOAD_SIGNALS: (name, text) => ({ reloadSignals: parseSignals(name, text) }),
  RELOAD_SELF_SHUTDOWN_SIGNALS: (name, text) => ({ shutdownSignals: parseSignals(name, text) }),
  RELOAD_SELF_STATUS: (name, text) => ({ status: oneOf(name, text, ["true", "false"]) === "true" }),
};
/** The least that is written to stderr. */
const LEVEL = "RELOAD_SELF_LOG";

/**
 * Reads the options.
 *
 * @throws {TypeError} Names the first variable that is wrong.
 */
export function readOptions(get: Get): AutoOptions {
  const listen: ListenOptions = {};
  for (const [name, parse] of Object.entries(VARIABLES)) {
    const text = get(name);
    if (text !== undefined && text !== "") Object.assign(listen, parse(name, text));
  }
  const level = get(LEVEL);
  return {
    listen,
    level: level ? oneOf(LEVEL, level, ["info", "warn", "error"] as const) : "warn",
  };
}
