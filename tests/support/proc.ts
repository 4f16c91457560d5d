import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { cleanUp, type TestScope } from "./clean_up.ts";
import { until } from "./wait.ts";

function read(pid: number, name: string): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/${name}`, "utf8");
  } catch {
    return undefined;
  }
}

/** The pids of all processes. */
export function allPids(): number[] {
  return readdirSync("/proc").filter((name) => /^\d+$/.test(name)).map(Number);
}

/** Has the process this variable in the environment that it was started with? */
export function hasVariable(pid: number, entry: string): boolean {
  return read(pid, "environ")?.split("\0").includes(entry) ?? false;
}

/**
 * The fields of /proc/PID/stat from the state on, past the name, which may contain anything;
 * proc_pid_stat(5).
 */
function statOf(pid: number): string[] | undefined {
  return read(pid, "stat")?.replace(/^.*\) /s, "").split(" ");
}

/** The state letter of a process (`Z`: a zombie), or `undefined` when it is gone. */
export function stateOf(pid: number): string | undefined {
  return statOf(pid)?.[0];
}

/** Is the process there, and not a zombie? */
export function isAlive(pid: number): boolean {
  const state = stateOf(pid);
  return state !== undefined && state !== "Z" && state !== "X";
}

/** The children of a process, zombies included. */
export function childrenOf(pid: number): number[] {
  return allPids().filter((child) => statOf(child)?.[1] === String(pid));
}

/**
 * What the file descriptors of a process lead to, sorted; numbers that differ from process to
 * process are left out.
 */
export function descriptorsOf(pid: number): string[] {
  return readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/${pid}/fd/${fd}`).replace(/\[\d+\]$/, "")];
    } catch {
      return [];
    }
  }).sort();
}

/**
 * The memory of a process in bytes, without what it has mapped from files: that is shared with
 * whoever runs the same runtime.
 */
export function memoryOf(pid: number): number {
  return 1024 * Number(/^Anonymous:\s+(\d+)/m.exec(read(pid, "smaps_rollup") ?? "")?.[1]);
}

/** The command line of a process. */
export function commandLineOf(pid: number): string[] {
  return (read(pid, "cmdline") ?? "").split("\0").slice(0, -1);
}

/** The id of the session of a process. */
export function sessionOf(pid: number): number {
  return Number(statOf(pid)?.[3]);
}

/** The parent of a process. */
export function parentOf(pid: number): number {
  return Number(statOf(pid)?.[1]);
}

/** Kills processes at the end of a test, and waits until they are gone. */
export function killAtEnd(t: TestScope, pids: () => number[]): void {
  cleanUp(t, () =>
    until("the processes of the test to be gone", () => {
      const left = pids();
      for (const pid of left) {
        try {
          process.kill(pid, "SIGKILL");
        } catch {
          // Gone by itself.
        }
      }
      return left.length === 0;
    }));
}
