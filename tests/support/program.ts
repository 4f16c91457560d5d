import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { cleanUp, type TestScope } from "./clean_up.ts";
import { allPids, hasVariable, isAlive, killAtEnd } from "./proc.ts";
import type { Runtime } from "./runtimes.ts";
import { until } from "./wait.ts";

/** A line of JSON that a program under test has written. */
export interface Report {
  type: string;
  pid: number;
  generation: number;
  // Whatever the fixture wrote: each test knows what it asks for.
  // deno-lint-ignore no-explicit-any
  [field: string]: any;
}

/** How a program is started. */
export interface StartOptions {
  /** Instead of the runtime's flags for an unrestricted program. */
  flags?: readonly string[];
  /** The script, a fixture's name or a path. Default: program.ts. */
  script?: string;
  args?: readonly string[];
  env?: Record<string, string | undefined>;
  cwd?: string;
  /** What every generation does; see fixtures/program.ts. Can be changed with `behave`. */
  behaviour?: string;
  /** The whole command line, instead of the above. */
  command?: readonly string[];
  stdin?: "pipe";
  /** Descriptors of ours that the program finds from number 3 on. */
  descriptors?: readonly number[];
  /** With a channel to the test, as a supervisor gives its programs. */
  ipc?: boolean;
}

/** A program under test: all its generations. */
export interface Program {
  readonly process: ChildProcess;
  /** Where its status files are. */
  readonly runtimeFolder: string;
  /** The file that `behave` writes. */
  readonly behaviourFile: string;
  /** All that was reported so far. */
  readonly reports: readonly Report[];
  /** All other lines on stdout and stderr. */
  readonly lines: readonly string[];
  /**
   * Waits for a report, from the first one on, or from a later one. The type `""` stands for all.
   */
  report(
    type: string,
    match?: Partial<Report> | ((report: Report) => boolean),
    from?: number,
  ): Promise<Report>;
  /** Waits for another line. */
  line(match: RegExp): Promise<string>;
  /** Sets what the generations that start from now on do. */
  behave(behaviour: string): void;
  /** Sends a signal to a generation. */
  signal(to: Report | number, signal?: NodeJS.Signals): void;
  /** The processes of the program that exist. */
  pids(): number[];
}

const fixtures = fileURLToPath(new URL("../fixtures/", import.meta.url));

/** The path of a fixture. */
export function fixture(name: string): string {
  return fixtures + name;
}

/** A folder of the test's own, removed at its end. */
export function temporaryFolder(t: TestScope): string {
  const folder = mkdtempSync(join(tmpdir(), "reload-self-"));
  cleanUp(t, () => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Starts a program, and sees to it that nothing of it outlives the test. */
export function startProgram(t: TestScope, runtime: Runtime, options: StartOptions = {}): Program {
  const behaviourFile = join(temporaryFolder(t), "behaviour");
  const behave = (behaviour: string) => writeFileSync(behaviourFile, behaviour);
  behave(options.behaviour ?? "run");

  const mark = randomUUID();
  const [file, ...args] = options.command ?? [
    runtime.executable,
    ...(options.flags ?? runtime.flags),
    options.script ?? fixture("program.ts"),
    ...(options.args ?? []),
  ];
  const runtimeFolder = temporaryFolder(t);
  const env = {
    ...process.env,
    XDG_RUNTIME_DIR: runtimeFolder,
    TEST_PROGRAM: mark,
    BEHAVIOUR: behaviourFile,
    NO_COLOR: "1",
    npm_lifecycle_event: undefined, // Of the tests, not of the program.
    ...options.env,
  };
  const child = spawn(file as string, args, {
    cwd: options.cwd,
    env: { PWD: options.cwd ?? process.cwd(), ...env },
    stdio: [
      options.stdin ?? "ignore",
      "pipe",
      "pipe",
      ...(options.descriptors ?? []),
      ...(options.ipc ? ["ipc" as const] : []),
    ],
  });
  const pids = () => allPids().filter((pid) => hasVariable(pid, `TEST_PROGRAM=${mark}`));
  cleanUp(t, () => {
    child.stdout?.destroy();
    child.stderr?.destroy();
  });
  killAtEnd(t, pids); // Before that.

  const reports: Report[] = [];
  const lines: string[] = [];
  child.on("error", (error) => lines.push(`cannot be started: ${error.message}`));
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream as NodeJS.ReadableStream }).on("line", (line) => {
      try {
        // `deno serve --parallel` says which thread wrote it.
        const text = line.replace(/^\[serve-worker-\d+ *\] /, "");
        reports.push(JSON.parse(text.startsWith("{") ? text : ""));
      } catch {
        lines.push(line);
      }
    });
  }
  async function find<T>(what: string, look: () => T | undefined): Promise<T> {
    try {
      return await until(what, look);
    } catch (error) {
      throw new Error(
        `${(error as Error).message}\nreports: ${JSON.stringify(reports)}\nlines:\n${
          lines.join("\n")
        }`,
      );
    }
  }

  return {
    process: child,
    behaviourFile,
    runtimeFolder,
    reports,
    lines,
    report: (type, match = {}, from = 0) =>
      find(
        `${type} ${typeof match === "function" ? match : JSON.stringify(match)}`,
        () =>
          reports.find((report, i) =>
            i >= from && (report.type === type || type === "") &&
            (typeof match === "function"
              ? match(report)
              : Object.entries(match).every(([key, value]) => report[key] === value))
          ),
      ),
    line: (match) => find(String(match), () => lines.find((line) => match.test(line))),
    behave,
    signal: (to, signal = "SIGHUP") => process.kill(typeof to === "number" ? to : to.pid, signal),
    pids,
  };
}

/** The first number on the next line that matches: most programs write their pid there. */
export async function pidOnLine(program: Program, match: RegExp): Promise<number> {
  return Number(/\d+/.exec(await program.line(match))?.[0]);
}

/** Replaces the generation that is in charge, and returns the first report of the next one. */
export async function reload(program: Program, old: Report): Promise<Report> {
  const from = program.reports.length;
  program.signal(old);
  const next = await program.report("serving", { generation: old.generation + 1 }, from);
  await program.report("reload-end", { pid: next.pid }, from);
  await until(`${old.pid} to be gone`, () => !isAlive(old.pid));
  return next;
}
