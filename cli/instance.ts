/** The processes of one instance of a program, followed by the files that they and their guards write into a folder. */
import type { ChildProcess } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { constants as os } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { attempt } from "../src/core/attempt.ts";
import type { Supervisor } from "../src/core/service_adapter.ts";
import { startGuarded } from "../adapters/tools/machine.ts";
import { SOCKET } from "../src/protocol/instances.ts";
import { EXIT, GUARD, IN_CHARGE, type InCharge, parseInCharge } from "../src/protocol/run.ts";
import { REAPER_VARIABLE } from "./reaper.ts";

/** How the first generation is started. */
export interface StartOptions extends Pick<Supervisor, "instances" | "check"> {
  /** Descriptors of sockets that it is started with. */
  readonly sockets: readonly number[];
}

/** One instance of a program. */
export interface Instance {
  /** The folder. It is this user's alone. */
  readonly folder: string;
  /** The process in charge, once the program has called listen(). */
  inCharge(): InCharge | undefined;
  /** Resolves with the pid of the process in charge when the program has called listen(). */
  whenInCharge(): Promise<number>;
  /** Starts the first generation. Resolves with the exit code of the last one. */
  start(command: readonly string[], options: StartOptions): Promise<number>;
  /** Resolves when the program has reported that it runs, with all its sockets. */
  readonly isUp: Promise<void>;
  /** Must be called when the program has reported that. */
  setUp(): void;
  /** Resolves when no process is left. */
  gone(): Promise<number>;
  /** Signals all processes. */
  killAll(signal: NodeJS.Signals): void;
  /** Must be called when the files may have changed. */
  check(): void;
}

/** Signals a process that may be gone. */
export function kill(pid: number, signal: NodeJS.Signals): void {
  attempt(() => process.kill(pid, signal));
}

/** Makes a folder, and follows the processes that are noted in it. */
export function createInstance(folder: string): Instance {
  mkdirSync(folder, { mode: 0o700 });
  const checks = new Set<() => void>();
  const wasInCharge = new Set<number>();
  const up = Promise.withResolvers<void>();
  let first: ChildProcess | undefined;

  const remove = (name: string) => rmSync(join(folder, name), { force: true });
  const read = (name: string) => attempt(() => readFileSync(join(folder, name), "utf8"));
  const inCharge = () => parseInCharge(read(IN_CHARGE) ?? "");

  /** The guards that live. */
  function guards(): number[] {
    return readdirSync(folder).flatMap((name) => {
      const pid = Number(name.startsWith(GUARD) ? name.slice(GUARD.length) : NaN);
      if (!(pid > 0)) return [];
      try {
        process.kill(pid, 0);
        return [pid];
      } catch {
        remove(name); // It was killed, and could not remove the file itself.
        return [];
      }
    });
  }

  /** How the program has ended; `undefined` while it lives, or while there is a process that may yet take over. */
  function outcome(): number | undefined {
    const guard = inCharge()?.guard ?? first?.pid;
    const isFirst = guard === first?.pid;
    if (guard === undefined || (isFirst && first?.exitCode === null && first.signalCode === null)) return undefined;
    const living = guards();
    // A guard that was in charge before has retired, and finishes; one that never was takes over or fails.
    if (living.includes(guard) || living.some((pid) => !wasInCharge.has(pid))) return undefined;
    const code = read(`${EXIT}${guard}`) ?? (isFirst ? first?.exitCode : undefined);
    return Number(code ?? 128 + os.signals[(isFirst && first?.signalCode) || "SIGKILL"]);
  }

  function check(): void {
    const guard = inCharge()?.guard;
    if (guard !== undefined) wasInCharge.add(guard);
    for (const check of checks) check();
  }

  function until(condition: () => number | undefined): Promise<number> {
    return new Promise((resolve) => {
      const checkOne = () => {
        const found = condition();
        if (found === undefined) return;
        checks.delete(checkOne);
        resolve(found);
      };
      checks.add(checkOne);
      check();
    });
  }

  return {
    folder,
    inCharge,
    whenInCharge: () => until(() => inCharge()?.pid),
    start(command, { instances, check: order, sockets }) {
      for (const name of readdirSync(folder)) if (name !== SOCKET) remove(name);
      wasInCharge.clear();
      const child = first = startGuarded(
        command,
        { folder, instances, check: order },
        { [REAPER_VARIABLE]: undefined },
        sockets,
      );
      if (child.pid !== undefined) wasInCharge.add(child.pid);
      child.once("error", check);
      child.once("exit", check);
      return until(outcome);
    },
    isUp: up.promise,
    setUp: up.resolve,
    gone: () => until(() => guards().length === 0 ? 0 : undefined),
    killAll(signal) {
      const child = first;
      const noted = guards();
      for (const pid of noted) kill(-pid, signal); // Each guard leads a process group.
      if (child?.pid === undefined || noted.includes(child.pid)) return;
      const group = -child.pid;
      const isOver = () => child.exitCode !== null || child.signalCode !== null;
      if (signal === "SIGKILL" && !isOver()) kill(group, signal);
      // What it is about to start would not get the signal before it is noted.
      else until(() => isOver() || guards().includes(-group) ? 0 : undefined).then(() => isOver() || kill(group, signal));
    },
    check,
  };
}
