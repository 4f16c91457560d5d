/** The processes of one instance of a program, followed by what they and their guards write into a folder. */
import { type ChildProcess, spawn } from "node:child_process";
import { readdirSync, readFileSync, rmSync } from "node:fs";
import { constants as os } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { guarded } from "../adapters/reparent.ts";
import { nodeService } from "../adapters/node/service.ts";
import { supervision } from "../adapters/environment_handshake.ts";
import { UP } from "../handovers/instances.ts";
import { EXIT, GUARD, IN_CHARGE, type InCharge, parseInCharge } from "../handovers/run_protocol.ts";
import { REAPER_VARIABLE } from "./reaper.ts";

/** One instance of a program. */
export interface Generations {
  /** The process in charge, once the program has called listen(). */
  inCharge(): InCharge | undefined;
  /** Starts the first generation. Resolves with the exit code of the last one. */
  start(command: readonly string[], instances: number): Promise<number>;
  /** Resolves when the program says that it is there. */
  isUp(): Promise<unknown>;
  /** Resolves when no process is left. */
  gone(): Promise<number>;
  /** Signals all processes. */
  killAll(signal: NodeJS.Signals): void;
  /** To be called when something may have changed. */
  look(): void;
  /** A file in the folder. */
  read(name: string): string | undefined;
  /** Makes a file in the folder. */
  write(name: string, text: string): void;
  /** Removes a file in the folder. */
  remove(name: string): void;
}

/** Signals a process that may be gone. */
export function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // Gone meanwhile.
  }
}

/** Follows the processes that are noted in a folder. */
export function followGenerations(folder: string): Generations {
  const files = nodeService(process, { ...process.env }).files();
  const listeners = new Set<() => void>();
  const wasInCharge = new Set<number>();
  let first: ChildProcess | undefined;

  const remove = (name: string) => rmSync(join(folder, name), { force: true });
  function read(name: string): string | undefined {
    try {
      return readFileSync(join(folder, name), "utf8");
    } catch {
      return undefined;
    }
  }
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
        remove(name); // It was killed, and could not say so.
        return [];
      }
    });
  }

  /** How the program has ended, or `undefined` while it lives, or while there is a process that may yet take over. */
  function outcome(): number | undefined {
    const guard = inCharge()?.guard ?? first?.pid;
    const isFirst = guard === first?.pid;
    if (guard === undefined || (isFirst && first?.exitCode === null && first.signalCode === null)) return undefined;
    const living = guards();
    // Whoever is left has retired, and finishes; or it was never in charge, and takes over or fails.
    if (living.includes(guard) || living.some((pid) => !wasInCharge.has(pid))) return undefined;
    const code = read(`${EXIT}${guard}`) ?? (isFirst ? first?.exitCode : undefined) ?? 128 + os.signals.SIGKILL;
    return Number(code);
  }

  function look(): void {
    const guard = inCharge()?.guard;
    if (guard !== undefined) wasInCharge.add(guard);
    for (const listener of listeners) listener();
  }

  function until(condition: () => number | undefined): Promise<number> {
    return new Promise((resolve) => {
      const listener = () => {
        const found = condition();
        if (found === undefined) return;
        listeners.delete(listener);
        resolve(found);
      };
      listeners.add(listener);
      look();
    });
  }

  return {
    inCharge,
    start([file = "", ...args], instances) {
      for (const name of readdirSync(folder)) remove(name);
      wasInCharge.clear();
      const guard = guarded({ file, args }, "/bin/sh");
      const env = {
        ...process.env,
        ...supervision({ folder, instances }),
        [REAPER_VARIABLE]: undefined,
      };
      const child = first = spawn(guard.file, guard.args, { detached: true, stdio: ["ignore", "inherit", "inherit"], env });
      if (child.pid !== undefined) wasInCharge.add(child.pid);
      child.once("error", look);
      child.once("exit", look);
      return until(outcome);
    },
    isUp: () => until(() => read(UP) === undefined ? undefined : 0),
    gone: () => until(() => guards().length === 0 ? 0 : undefined),
    // Each guard leads a process group.
    killAll: (signal) => guards().forEach((pid) => kill(-pid, signal)),
    look,
    read,
    // At once: who reads it, reads all of it.
    write: (name, text) => files.replace(join(folder, name), text),
    remove,
  };
}
