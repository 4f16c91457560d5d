import { describeError, ReloadError } from "../core/error.ts";
import type { Participant } from "../core/participant.ts";
import type { ServiceAdapter, ServiceFiles } from "../core/service_adapter.ts";

/** Clock ticks a second in /proc; proc_pid_stat(5). Linux has had no other value for decades. */
const TICKS = 100;
/** How much later than its process's start a file is written that names the process: never before it, but for the clocks' steps. */
const SLACK = 2_000;

/** Everybody may know the pid of a service, as with other daemons. */
const MODE = 0o644;

/** The pid in a file, or `undefined` when there is none in it. */
export function parsePid(text: string): number | undefined {
  const match = /^\s*([1-9]\d{0,9})\s*$/.exec(text);
  const pid = Number(match?.[1]);
  return match !== null && pid <= 2 ** 31 - 1 ? pid : undefined;
}

/** The participant that keeps a file with the pid of the process in charge. */
export function createPidFile(
  adapter: ServiceAdapter,
  path: string,
  pid: number,
  hasPredecessor: boolean,
  warn: (line: string) => void,
): Participant {
  const files = adapter.files();
  const write = (pid: number) => files.replace(path, `${pid}\n`, MODE);

  if (!hasPredecessor) {
    refuseForeign(adapter, files, path, pid);
    try {
      write(pid);
    } catch (cause) {
      throw new ReloadError("pid-file", `listen: the pid file ${path} cannot be written: ${describeError(cause)}`, { cause });
    }
  }
  adapter.onExit(() => {
    try {
      const text = files.read(path);
      if (text !== undefined && parsePid(text) === pid) files.remove(path);
    } catch {
      // This process ends: there is nobody to tell, and whoever starts next replaces the file.
    }
  });

  return {
    name: `the pid file ${path}`,
    succeed(predecessor) {
      if (predecessor === "handed over") return;
      try {
        write(pid);
      } catch (error) {
        warn(`the pid file ${path} names a process that is gone: it could not be written: ${describeError(error)}`);
      }
    },
    commit(context) {
      write(context.pid as number);
    },
    rollback() {
      const text = files.read(path);
      if (text === undefined || parsePid(text) !== pid) write(pid);
    },
  };
}

/** Throws when the file names another process that lives. */
function refuseForeign(adapter: ServiceAdapter, files: ServiceFiles, path: string, own: number): void {
  const refuse = (why: string, cause?: unknown) => {
    throw new ReloadError("pid-file", `listen: the pid file ${path} ${why}`, { cause });
  };
  let text: string | undefined;
  try {
    text = files.read(path);
  } catch (cause) {
    refuse(`cannot be read: ${describeError(cause)}`, cause);
  }
  if (text === undefined || text.trim() === "") return;
  const pid = parsePid(text);
  if (pid === undefined) {
    return refuse("has something else than a pid in it; it is not replaced. Is it the right path? If so, remove the file");
  }
  if (pid === own || !adapter.isAlive(pid) || isReused(adapter, files, path, pid)) return;
  refuse(`belongs to process ${pid}, which is running: stop that first, or, if it is another program, remove the file`);
}

/** Did a process begin after the file was written that names it? Then it has got the number of the one that is meant. */
function isReused(adapter: ServiceAdapter, files: ServiceFiles, path: string, pid: number): boolean {
  try {
    const written = files.modified(path);
    const booted = /^btime (\d+)$/m.exec(files.read("/proc/stat") ?? "")?.[1];
    const started = adapter.startTime(pid);
    if (written === undefined || booted === undefined || started === undefined) return false;
    return Number(booted) * 1000 + Number(started) / TICKS * 1000 > written + SLACK;
  } catch {
    return false; // No /proc, or no permission to look.
  }
}
