/** `reload-self run`: a parent with a constant pid, for containers and supervisors. */
import { type ChildProcess, spawn } from "node:child_process";
import { accessSync, constants, mkdtempSync, readdirSync, readFileSync, rmSync, watch } from "node:fs";
import { constants as os, tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { guarded } from "../adapters/keeper.ts";
import { EXIT, FOLDER_VARIABLE, GUARD, IN_CHARGE, type InCharge, parseInCharge } from "../service/supervised.ts";
import { Failure } from "./failure.ts";
import { publishParent } from "./parent_status.ts";
import { REAPER_VARIABLE } from "./reaper.ts";

/** How a program is run. */
export interface RunOptions {
  /** Milliseconds from the signal to shut down until what is left is killed. */
  stopTimeout: number;
  /** How many crashes one after the other make a crash loop. */
  maxCrashes: number;
  /** Tells the person. */
  log(line: string): void;
}

/** A process that ran for so many milliseconds has not crashed at its start. */
const STABLE = 10_000;
/** Milliseconds before the first restart; each one doubles them, up to the most. */
const BACK_OFF = { first: 100, most: 10_000 };
/** Milliseconds between two looks, for what the watcher of files misses. */
const LOOK = 500;
const SHUTDOWN = ["SIGTERM", "SIGINT"] as const;
const FORWARDED = ["SIGQUIT", "SIGUSR1", "SIGUSR2"] as const;

/** Runs a program and all its generations. Resolves with the exit code to end with. */
export async function run(command: readonly string[], options: RunOptions): Promise<number> {
  const { log, maxCrashes } = options;
  const folder = makeFolder();
  const parent = publishParent();
  const generations = follow(folder, parent.update);
  let stopping = false;
  let stopNow = () => {};
  const interrupted = new Promise<void>((resolve) => stopNow = resolve);

  function forward(signal: NodeJS.Signals): void {
    const pid = generations.inCharge()?.pid;
    if (pid !== undefined) return void kill(pid, signal);
    if (signal === "SIGHUP") log("asked to reload, but the program has not called listen() of @js0/reload-self (yet): ignored");
    else generations.killAll(signal);
  }

  process.on("SIGHUP", forward);
  for (const signal of FORWARDED) process.on(signal, forward);
  for (const signal of SHUTDOWN) {
    process.on(signal, () => {
      stopping = true;
      stopNow();
      forward(signal);
    });
  }

  try {
    let crashes = 0;
    for (;;) {
      const begun = performance.now();
      const ended = generations.start(command);
      const code = await Promise.race([ended, interrupted.then(() => generations.stop(ended, options))]);
      if (stopping || code === 0) {
        await generations.stop(generations.gone(), options);
        return code;
      }
      crashes = performance.now() - begun > STABLE ? 1 : crashes + 1;
      const how = code > 128 ? `was ended by ${signalName(code - 128)}` : `exited with code ${code}`;
      if (crashes >= maxCrashes) {
        log(`the program ${how}, ${crashes} times one after the other: giving up`);
        return code;
      }
      const wait = Math.min(BACK_OFF.most, BACK_OFF.first * 2 ** (crashes - 1));
      log(`the program ${how}: it is started again in ${wait} ms`);
      await Promise.race([delay(wait), interrupted]);
      if (stopping) return code;
    }
  } finally {
    generations.close();
    parent.remove();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Throws when there is no such program: that is no crash. */
export function checkCommand([file = ""]: readonly string[]): void {
  const paths = file.includes("/")
    ? [file]
    : (process.env.PATH ?? "").split(delimiter).map((folder) => join(folder || ".", file));
  for (const path of paths) {
    try {
      return accessSync(path, constants.X_OK);
    } catch {
      // The next one.
    }
  }
  throw new Failure(2, `there is no program ${file}${file.includes("/") ? "" : " in PATH"} that can be run`);
}

function signalName(number: number): string {
  return Object.entries(os.signals).find(([, value]) => value === number)?.[0] ?? `signal ${number}`;
}

function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // Gone meanwhile.
  }
}

/** Only for this user; where the folder for temporary files cannot be written to, in memory. */
function makeFolder(): string {
  for (const base of [process.env.XDG_RUNTIME_DIR, tmpdir(), "/dev/shm"]) {
    if (!base) continue;
    try {
      return mkdtempSync(join(base, "reload-self-run-"));
    } catch {
      // Read-only, full, or not there.
    }
  }
  throw new Failure(2, `no folder can be written to: neither ${tmpdir()} nor /dev/shm. Set TMPDIR to one`);
}

/** Follows the processes of a program by what they and their guards write into the folder. */
function follow(folder: string, onInCharge: (pid: number) => void) {
  const listeners = new Set<() => void>();
  const changed = () => {
    const pid = inCharge()?.pid;
    if (pid !== undefined) onInCharge(pid);
    for (const listener of listeners) listener();
  };
  const watcher = watch(folder, changed);
  const interval = setInterval(changed, LOOK);
  let first: ChildProcess | undefined;

  const read = (name: string): string | undefined => {
    try {
      return readFileSync(join(folder, name), "utf8");
    } catch {
      return undefined;
    }
  };
  const inCharge = (): InCharge | undefined => parseInCharge(read(IN_CHARGE) ?? "");

  /** The guards that live, and the generations of their processes. */
  function guards(): { pid: number; generation: number }[] {
    return readdirSync(folder).flatMap((name) => {
      const pid = Number(new RegExp(`^${GUARD}(\\d+)$`).exec(name)?.[1]);
      if (!(pid > 0)) return [];
      try {
        process.kill(pid, 0);
      } catch {
        rmSync(join(folder, name), { force: true }); // It was killed, and could not say so.
        return [];
      }
      return [{ pid, generation: Number(/:(\d+)/.exec(read(name) ?? "")?.[1] ?? 0) }];
    });
  }

  /** How the program has ended, or `undefined` while it lives, or while there is one that may yet take over. */
  function outcome(): number | undefined {
    const guard = inCharge()?.guard ?? first?.pid;
    if (guard === undefined) return undefined;
    const living = guards();
    const its = living.find(({ pid }) => pid === guard);
    if (its !== undefined) return undefined;
    if (guard === first?.pid && first.exitCode === null && first.signalCode === null) return undefined;
    // Whoever is left is older, and finishes, or it is starting, and takes over or fails.
    const code = read(`${EXIT}${guard}`) ??
      (guard === first?.pid && first.exitCode !== null ? String(first.exitCode) : undefined);
    const isStarting = living.some(({ pid }) => read(`${GUARD}${pid}`)?.includes(":") && !wasInCharge.has(pid));
    return isStarting ? undefined : Number(code ?? 128 + os.signals.SIGKILL);
  }

  const wasInCharge = new Set<number>();

  function until<T>(look: () => T | undefined): Promise<T> {
    return new Promise((resolve) => {
      const listener = () => {
        const guard = inCharge()?.guard;
        if (guard !== undefined) wasInCharge.add(guard);
        const found = look();
        if (found === undefined) return;
        listeners.delete(listener);
        resolve(found);
      };
      listeners.add(listener);
      listener();
    });
  }

  return {
    inCharge,
    /** Starts the first generation. Resolves with the exit code of the last one. */
    start([file = "", ...args]: readonly string[]): Promise<number> {
      for (const name of readdirSync(folder)) rmSync(join(folder, name), { force: true });
      const guard = guarded({ file, args }, "/bin/sh");
      first = spawn(guard.file, guard.args, {
        detached: true,
        stdio: ["ignore", "inherit", "inherit"],
        env: { ...process.env, [FOLDER_VARIABLE]: folder, [REAPER_VARIABLE]: undefined },
      });
      first.once("error", changed);
      first.once("exit", changed);
      return until(outcome);
    },
    /** Resolves when no process is left. */
    gone: () => until(() => guards().length === 0 ? 0 : undefined),
    /** Waits for what is asked to end, but not for ever. */
    async stop(ended: Promise<number>, { stopTimeout, log }: RunOptions): Promise<number> {
      const timer = AbortSignal.timeout(stopTimeout);
      const late = new Promise<number>((resolve) => timer.addEventListener("abort", () => resolve(-1)));
      const code = await Promise.race([ended, late]);
      if (code !== -1) return code;
      log(`the program has not ended within ${stopTimeout / 1000} s: it is killed`);
      this.killAll("SIGKILL");
      return 128 + os.signals.SIGKILL;
    },
    /** Signals all processes: each guard leads a process group. */
    killAll(signal: NodeJS.Signals): void {
      for (const { pid } of guards()) kill(-pid, signal);
    },
    close(): void {
      watcher.close();
      clearInterval(interval);
    },
  };
}
