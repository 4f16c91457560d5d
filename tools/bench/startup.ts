/**
 * What the library costs a start: an empty program, next to one that only calls `listen()`, and one
 * that waits for the rest; from the tarball.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { median } from "../../tests/support/median.ts";
import type { Runtime } from "../../tests/support/runtimes.ts";

/** What one start took. */
export interface Start {
  milliseconds: number;
  /** The peak of its memory, in bytes; 0 where that was not asked for. */
  memory: number;
}

/** The medians of the starts, and of the differences of each pair. */
export interface StartupCost {
  /** Of the empty program. */
  empty: Start;
  /** What `listen()` adds. */
  added: Start;
  /** What is added by the time that everything is loaded, which a program does not wait for. */
  loaded: Start;
}

/**
 * The most memory that a process has had in RAM so far; `undefined` once it is gone.
 * proc_pid_status(5)
 */
function peakOf(pid: number): number | undefined {
  try {
    const [, size] = /^VmHWM:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8")) ?? [];
    return size === undefined ? undefined : Number(size) * 1024;
  } catch {
    return undefined;
  }
}

/**
 * Runs a program to its end. Its memory is looked at all the time, which takes the second
 * processor: never while the time is measured.
 */
async function start(
  runtime: Runtime,
  project: string,
  program: string,
  measure: "time" | "memory",
): Promise<Start> {
  const begun = performance.now();
  const child = spawn(runtime.executable, [...runtime.flags, program], {
    cwd: project,
    stdio: ["ignore", "ignore", "inherit"],
  });
  const exited = once(child, "exit");
  let memory = 0;
  if (measure === "memory") {
    for (
      let peak;
      (peak = peakOf(child.pid as number)) !== undefined;
      await new Promise(setImmediate)
    ) memory = peak;
  }
  const [code] = await exited;
  if (code !== 0) throw new Error(`${program} ended with code ${code}`);
  return { milliseconds: performance.now() - begun, memory };
}

/** Compares the programs in a project, in turns. */
export async function startup(
  runtime: Runtime,
  project: string,
  rounds: number,
): Promise<StartupCost> {
  writeFileSync(join(project, "empty.mjs"), "");
  writeFileSync(
    join(project, "listen.mjs"),
    `import { listen } from "@js0/reload-self";\nlisten().cancel();\n`,
  );
  writeFileSync(
    join(project, "loaded.mjs"),
    `import { listen } from "@js0/reload-self";\nconst token = listen();\nawait token.inheritedState;\ntoken.cancel();\n`,
  );
  const programs = ["empty.mjs", "listen.mjs", "loaded.mjs"] as const;
  const runs = { time: [] as Start[][], memory: [] as Start[][] };
  for (const measure of ["time", "memory"] as const) {
    for (let i = -1; i < rounds; i++) { // The first round fills the caches.
      const round: Start[] = [];
      for (const program of programs) round.push(await start(runtime, project, program, measure));
      if (i >= 0) runs[measure].push(round);
    }
  }
  /** The median of what a program takes, or of what it takes more than the empty one. */
  const cost = (program: (typeof programs)[number], isDifference: boolean): Start => {
    const value = (round: Start[], name: keyof Start) =>
      (round[programs.indexOf(program)]?.[name] ?? NaN) -
      (isDifference ? round[0]?.[name] ?? NaN : 0);
    return {
      milliseconds: median(runs.time.map((round) => value(round, "milliseconds"))),
      memory: median(runs.memory.map((round) => value(round, "memory"))),
    };
  };
  return {
    empty: cost("empty.mjs", false),
    added: cost("listen.mjs", true),
    loaded: cost("loaded.mjs", true),
  };
}

/** The size of a file of the package, in bytes when compressed by gzip. */
export function compressedSize(project: string, file: string): number {
  return gzipSync(readFileSync(join(project, "node_modules/@js0/reload-self", file)), { level: 9 })
    .length;
}
