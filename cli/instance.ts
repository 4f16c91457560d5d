/**
 * The processes of one instance of a program, followed by the files that they and their guards
 * write into a folder.
 */
import type { ChildProcess } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { constants as os } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { attempt } from "../src/core/attempt.ts";
import type { Supervisor } from "../src/core/service_adapter.ts";
import { replaceProcess, service, startGuarded } from "../adapters/tools/machine.ts";
import { SOCKET } from "../src/protocol/instances.ts";
import { EXIT, GUARD, IN_CHARGE, type InCharge, parseInCharge } from "../src/protocol/run.ts";

/** How the first generation is started. */
export interface StartOptions extends Pick<Supervisor, "instances" | "check"> {
  /** Descriptors of sockets that it is started with. */
  readonly sockets: readonly number[];
}

/** Signals a process that may be gone. */
export function kill(pid: number, signal: NodeJS.Signals): void {
  attempt(() => process.kill(pid, signal));
}

/** One instance of a program. */
export class Instance {
  /** The folder. It is this user's alone. */
  readonly folder: string;
  readonly #up = Promise.withResolvers<void>();
  readonly #checks = new Set<() => void>();
  readonly #wasInCharge = new Set<number>();
  #first: ChildProcess | undefined;

  /** Makes the folder, and follows the processes that are noted in it. */
  constructor(folder: string) {
    this.folder = folder;
    mkdirSync(folder, { mode: 0o700 });
  }

  /** The process in charge, once the program has called listen(). */
  inCharge(): InCharge | undefined {
    return parseInCharge(this.#read(IN_CHARGE) ?? "");
  }

  /** Resolves with the pid of the process in charge when the program has called listen(). */
  whenInCharge(): Promise<number> {
    return this.#until(() => this.inCharge()?.pid);
  }

  /** Starts the first generation. Resolves with the exit code of the last one: no one is in charge. */
  async start(
    command: readonly string[],
    { instances, check, sockets }: StartOptions,
  ): Promise<number> {
    const { folder } = this;
    for (const name of readdirSync(folder)) if (name !== SOCKET) this.#remove(name);
    this.#wasInCharge.clear();
    const child = startGuarded(command, { folder, instances, check }, {
      [REAPER_VARIABLE]: undefined,
    }, sockets);
    this.#first = child;
    if (child.pid !== undefined) this.#wasInCharge.add(child.pid);
    child.once("error", () => this.check());
    child.once("exit", () => this.check());
    const code = await this.#until(() => this.#outcome());
    this.#remove(IN_CHARGE);
    return code;
  }

  /** Resolves when the program has reported that it runs, with all its sockets. */
  get isUp(): Promise<void> {
    return this.#up.promise;
  }

  /** Must be called when the program has reported that. */
  setUp(): void {
    this.#up.resolve();
  }

  /** Resolves when no process is left. */
  gone(): Promise<number> {
    return this.#until(() => this.#guards().length === 0 ? 0 : undefined);
  }

  /** Signals all processes. */
  killAll(signal: NodeJS.Signals): void {
    const child = this.#first;
    const noted = this.#guards();
    for (const pid of noted) kill(-pid, signal); // Each guard leads a process group.
    if (child?.pid === undefined || noted.includes(child.pid)) return;
    const group = -child.pid;
    const isOver = () => child.exitCode !== null || child.signalCode !== null;
    if (signal === "SIGKILL" && !isOver()) return kill(group, signal);
    // What it is about to start would not get the signal before it is noted.
    this.#until(() => isOver() || this.#guards().includes(-group) ? 0 : undefined).then(() =>
      isOver() || kill(group, signal)
    );
  }

  /** Must be called when the files may have changed. */
  check(): void {
    const guard = this.inCharge()?.guard;
    if (guard !== undefined) this.#wasInCharge.add(guard);
    for (const check of this.#checks) check();
  }

  #read(name: string): string | undefined {
    return attempt(() => readFileSync(join(this.folder, name), "utf8"));
  }

  #remove(name: string): void {
    rmSync(join(this.folder, name), { force: true });
  }

  /** The guards that live. */
  #guards(): number[] {
    return readdirSync(this.folder).flatMap((name) => {
      const pid = Number(name.startsWith(GUARD) ? name.slice(GUARD.length) : NaN);
      if (!(pid > 0)) return [];
      if (service.isAlive(pid)) return [pid];
      this.#remove(name); // It was killed, and could not remove the file itself.
      kill(-pid, "SIGKILL"); // What it has started would go on, and nobody would follow it.
      return [];
    });
  }

  /**
   * How the program has ended; `undefined` while it lives, or while there is a process that may yet
   * take over.
   */
  #outcome(): number | undefined {
    const first = this.#first;
    const guard = this.inCharge()?.guard ?? first?.pid;
    const isFirst = guard === first?.pid;
    if (guard === undefined || (isFirst && first?.exitCode === null && first.signalCode === null)) {
      return undefined;
    }
    const living = this.#guards();
    // A guard that was in charge before has retired, and finishes; one that never was takes over or
    // fails.
    if (living.includes(guard) || living.some((pid) => !this.#wasInCharge.has(pid))) {
      return undefined;
    }
    const code = this.#read(`${EXIT}${guard}`) ?? (isFirst ? first?.exitCode : undefined);
    return Number(code ?? 128 + os.signals[(isFirst && first?.signalCode) || "SIGKILL"]);
  }

  #until(condition: () => number | undefined): Promise<number> {
    return new Promise((resolve) => {
      const checkOne = () => {
        const found = condition();
        if (found === undefined) return;
        this.#checks.delete(checkOne);
        resolve(found);
      };
      this.#checks.add(checkOne);
      this.check();
    });
  }
}

/** Tells this program that process 1 is its reaper. */
export const REAPER_VARIABLE = "RELOAD_SELF_REAPER";

/**
 * A shell does that while it waits; no runtime can wait for a process that it has not started. The
 * shell passes signals on.
 */
const REAPER = `${REAPER_VARIABLE}=1 "$0" "$@" & child=$!
for signal in HUP INT TERM QUIT USR1 USR2; do trap "kill -$signal $child" $signal; done
while :; do
  wait $child
  code=$?
  kill -0 $child 2>/dev/null || exit $code
done`;

/**
 * Replaces process 1 by a shell that starts this program again as another process. Returns why that
 * is not possible.
 */
export function makeWayForReaper(): string | undefined {
  if (process.pid !== 1 || process.platform !== "linux") return undefined;
  const [, ...args] = readFileSync("/proc/self/cmdline", "utf8").split("\0").slice(0, -1);
  return replaceProcess("/bin/sh", ["sh", "-c", REAPER, process.execPath, ...args]);
}
