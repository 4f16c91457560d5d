/** What the library costs a start: an empty program, next to one that only calls `listen()`, from the tarball. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { median } from "../tests/support/median.ts";
import type { Runtime } from "../tests/support/runtimes.ts";

/** What one start took. */
interface Start {
  milliseconds: number;
  /** The peak of its memory, in bytes; 0 where that was not asked for. */
  memory: number;
}

/** The medians of the starts, and of the differences of each pair. */
export interface StartupCost {
  /** Of the empty program. */
  empty: Start;
  /** What the library adds. */
  added: Start;
}

/** The most memory that a process has had in RAM so far; `undefined` once it is gone. proc_pid_status(5) */
function peakOf(pid: number): number | undefined {
  try {
    const [, size] = /^VmHWM:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8")) ?? [];
    return size === undefined ? undefined : Number(size) * 1024;
  } catch {
    return undefined;
  }
}

/** Runs a program to its end. Its memory is looked at all the time, which takes the second processor: never while the time is measured. */
async function start(runtime: Runtime, project: string, program: string, measure: "time" | "memory"): Promise<Start> {
  const begun = performance.now();
  const child = spawn(runtime.executable, [...runtime.flags, program], {
    cwd: project,
    stdio: ["ignore", "ignore", "inherit"],
  });
  const exited = once(child, "exit");
  let memory = 0;
  if (measure === "memory") {
    for (let peak; (peak = peakOf(child.pid as number)) !== undefined; await new Promise(setImmediate)) memory = peak;
  }
  const [code] = await exited;
  if (code !== 0) throw new Error(`${program} ended with code ${code}`);
  return { milliseconds: performance.now() - begun, memory };
}

/** Compares the two programs in a project, in turns. */
export async function startup(runtime: Runtime, project: string, rounds: number): Promise<StartupCost> {
  writeFileSync(join(project, "empty.mjs"), "");
  writeFileSync(join(project, "listen.mjs"), `import { listen } from "@js0/reload-self";\nlisten().cancel();\n`);
  const pairs: Record<"time" | "memory", [empty: Start, listen: Start][]> = { time: [], memory: [] };
  for (const measure of ["time", "memory"] as const) {
    for (let i = -1; i < rounds; i++) { // The first pair fills the caches.
      const pair: [Start, Start] = [
        await start(runtime, project, "empty.mjs", measure),
        await start(runtime, project, "listen.mjs", measure),
      ];
      if (i >= 0) pairs[measure].push(pair);
    }
  }
  return {
    empty: {
      milliseconds: median(pairs.time.map(([empty]) => empty.milliseconds)),
      memory: median(pairs.memory.map(([empty]) => empty.memory)),
    },
    added: {
      milliseconds: median(pairs.time.map(([empty, listen]) => listen.milliseconds - empty.milliseconds)),
      memory: median(pairs.memory.map(([empty, listen]) => listen.memory - empty.memory)),
    },
  };
}

/** The size of a file of the package, in bytes when compressed by gzip. */
export function compressedSize(project: string, file: string): number {
  return gzipSync(readFileSync(join(project, "node_modules/@js0/reload-self", file)), { level: 9 }).length;
}
