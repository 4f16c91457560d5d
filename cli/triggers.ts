/**
 * What makes `reload-self run` and `serve` reload by themselves: --watch, --max-memory, --every.
 */
import { execFileSync } from "node:child_process";
import process from "node:process";
import { attempt } from "../src/core/attempt.ts";
import { createAttempts } from "../src/triggers/attempts.ts";
import { MEMORY_CHECK_MS, watchMemory } from "../src/triggers/memory.ts";
import { createSchedule } from "../src/triggers/schedule.ts";
import { repeat } from "../src/triggers/timer.ts";
import { checkPaths, DEFAULT_DEBOUNCE_MS, watchPaths } from "../src/triggers/watch.ts";
import { kill } from "./instance.ts";
import { readProc } from "./processes.ts";
import { reload } from "./reload.ts";
import { findStatus } from "./target.ts";

/** The options. */
export interface Triggers {
  /** Files and folders that are watched. */
  readonly watch: readonly string[];
  /** The most that a process may have in memory, in bytes. */
  readonly memory: number | undefined;
  /** The least time between two reloads because of that, in milliseconds. */
  readonly memoryPause: number;
  /** A time, or a pattern of cron. */
  readonly every: string | undefined;
}

/**
 * Begins to reload a program whenever there is a reason to; what it returns ends that.
 *
 * @param pids The processes in charge, one of each instance.
 */
export type BeginTriggers = (pids: () => number[], log: (line: string) => void) => () => void;

/** How long the outcome of a reload is waited for. */
const OUTCOME_MS = 600_000;

/** Throws a TypeError that names the option that is wrong. */
export function prepareTriggers({ watch, memory, memoryPause, every }: Triggers): BeginTriggers {
  checkPaths(watch);
  const next = every === undefined ? undefined : createSchedule("--every", every);
  return (pids, log) => {
    const attempts = createAttempts({
      reload: async () => {
        const [pid] = pids();
        if (pid === undefined) return; // It is being started, and reads everything anew.
        if (findStatus(pid) !== undefined) await reload(String(pid), OUTCOME_MS);
        else kill(pid, "SIGHUP"); // What comes of it is not known.
      },
      isFinal: () => false,
      log,
    });
    const size = () => Math.max(0, ...pids().map(sizeOf));
    const stops = [
      attempts.stop,
      ...watch.length > 0
        ? [
          watchPaths(watch, DEFAULT_DEBOUNCE_MS, (path) =>
            void attempts.begin(`${path} has changed`, true)),
        ]
        : [],
      ...memory !== undefined
        ? [
          watchMemory({
            size,
            most: memory,
            pause: memoryPause,
            interval: MEMORY_CHECK_MS,
            exceeded: attempts.begin,
          }),
        ]
        : [],
      ...next !== undefined
        ? [repeat(next, () => attempts.begin(`it is time (--every ${every})`))]
        : [],
    ];
    return () => stops.forEach((stop) => stop());
  };
}

/** The size of a process in memory, in bytes; 0 where it is not known. */
function sizeOf(pid: number): number {
  const [, kilobytes] = /^VmRSS:\s+(\d+) kB$/m.exec(readProc(pid, "status")) ?? [];
  if (kilobytes !== undefined) return Number(kilobytes) * 1024;
  if (process.platform === "win32" || process.platform === "linux") return 0;
  // It may have ended.
  return Number(
    attempt(() => execFileSync("ps", ["-o", "rss=", "-p", String(pid)], { encoding: "utf8" })) ?? 0,
  ) * 1024;
}
