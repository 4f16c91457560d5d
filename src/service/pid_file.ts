import { attempt } from "../core/attempt.ts";
import { describeError } from "../core/describe_error.ts";
import { ReloadError } from "../core/error.ts";
import type { Files } from "../core/files.ts";
import type { BasicServiceAdapter } from "../core/service_adapter.ts";
import type { ListenOptions } from "../core/options.ts";
import { parsePid } from "../protocol/pid_file.ts";
import type { Handover } from "../reload/handover.ts";

/**
 * Clock ticks per second in /proc; proc_pid_stat(5). The value has been the same on Linux for
 * decades.
 */
const TICKS_PER_SECOND = 100;
/** Milliseconds by which the clocks of the kernel and of the file system may differ. */
const CLOCK_SLACK_MS = 2_000;
/** Readable by all users, like the pid files of other daemons. */
const MODE = 0o644;

/** What the pid file has to know of the program. */
export interface PidFileProgram {
  readonly options: Pick<ListenOptions, "pidFile">;
  readonly pid: number;
  /** Whether this process has no predecessor. */
  readonly isFirst: boolean;
  warn(message: string): void;
}

/**
 * Keeps the pid of the process in charge in a file, where that is asked for.
 *
 * @throws {ReloadError} When the file belongs to another process, or cannot be written.
 */
export function createPidFile(
  adapter: BasicServiceAdapter | undefined,
  { options: { pidFile: path }, pid, isFirst, warn }: PidFileProgram,
): Handover | undefined {
  if (adapter === undefined || path === undefined) return undefined;
  const files = adapter.files();
  const write = (pid: number) => files.replace(path, `${pid}\n`, MODE);
  /** A new process that was killed. This one may exit before the reload is rolled back. */
  let failed: number | undefined;
  const isOurs = () => {
    const named = parsePid(files.read(path) ?? "");
    return named !== undefined && [pid, failed].includes(named);
  };

  if (isFirst) {
    refuseForeign(adapter, files, path, pid);
    removeLeftovers(adapter, files, path);
    try {
      write(pid);
    } catch (cause) {
      throw new ReloadError(
        "pid-file",
        `listen: the pid file ${path} cannot be written: ${describeError(cause)}`,
        { cause },
      );
    }
  }
  adapter.onExit(() => {
    // This process ends: the next one replaces the file.
    attempt(() => isOurs() && files.remove(path));
  });

  return {
    name: `the pid file ${path}`,
    outgoing(reload) {
      reload.signal.addEventListener("abort", () => failed = reload.pid);
      return {
        commit: () => write(reload.pid as number),
        rollback() {
          failed = undefined;
          if (!isOurs()) write(pid);
        },
      };
    },
    incoming: () => ({
      takeOver(departure) {
        if (departure === "handed over") return;
        try {
          write(pid);
        } catch (error) {
          warn(
            `the pid file ${path} names a process that is gone: it could not be written: ${
              describeError(error)
            }`,
          );
        }
      },
    }),
  };
}

/** Removes what processes have left behind that were killed while they replaced the file. */
function removeLeftovers(adapter: BasicServiceAdapter, files: Files, path: string): void {
  const [, folder = ".", base = path] = /^(.*)\/([^/]*)$/.exec(path) ?? [];
  for (const name of files.list(folder || "/")) {
    const pid = name.startsWith(`${base}.`)
      ? Number(/^(\d+)\.new$/.exec(name.slice(base.length + 1))?.[1])
      : NaN;
    if (!(pid > 0) || adapter.isAlive(pid)) continue;
    attempt(() => files.remove(`${folder}/${name}`)); // It may not be ours to remove.
  }
}

/** Throws when the file names another process that runs. */
function refuseForeign(
  adapter: BasicServiceAdapter,
  files: Files,
  path: string,
  own: number,
): void {
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
    return refuse(
      "contains no pid; it is not replaced. Is it the right path? If so, remove the file",
    );
  }
  if (pid === own || !adapter.isAlive(pid) || isReused(adapter, files, path, pid)) return;
  refuse(
    `belongs to process ${pid}, which is running: stop that first, or, if it is another program, remove the file`,
  );
}

/**
 * Whether the pid has been given to another process since the file was written: then the process is
 * younger than the file.
 */
function isReused(adapter: BasicServiceAdapter, files: Files, path: string, pid: number): boolean {
  const written = attempt(() => files.modified(path));
  // There may be no /proc, or no permission to read it.
  const booted = /^btime (\d+)$/m.exec(attempt(() => files.read("/proc/stat")) ?? "")?.[1];
  const started = attempt(() => adapter.startTime(pid));
  if (written === undefined || booted === undefined || started === undefined) return false;
  return Number(booted) * 1000 + Number(started) / TICKS_PER_SECOND * 1000 >
    written + CLOCK_SLACK_MS;
}
