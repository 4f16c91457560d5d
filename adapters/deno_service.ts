import { ReloadError } from "../core/error.ts";
import type { ServiceAdapter, Supervisor } from "../core/service_adapter.ts";
import { attempt } from "./attempt.ts";
import { parseStartTime } from "../core/start_time.ts";
import { answerOnPipe, windowsFolder } from "./windows.ts";
import type { Environment } from "./environment.ts";
import type { DenoSocketsNamespace } from "./deno_sockets.ts";
import type { NodeProcess } from "./node_process.ts";
import { LARGEST_FILE } from "./small_files.ts";
import { folderCandidates, MOST_OUTPUT, ownFolder } from "./own_folder.ts";

/** What of the global `Deno` is used here. */
export interface DenoServiceNamespace {
  readonly pid: number;
  readonly ppid: number;
  readonly build: { readonly os: string };
  readonly Command: new (
    file: string,
    options: { args: readonly string[]; stdin: "null"; stdout: "piped"; stderr: "piped"; signal?: AbortSignal },
  ) => { output(): Promise<{ success: boolean; code: number; stdout: Uint8Array; stderr: Uint8Array }> };
  readTextFileSync(path: string): string;
  writeTextFileSync(path: string, text: string, options: { mode: number; createNew: boolean }): void;
  statSync(path: string): {
    readonly isFile: boolean;
    readonly isDirectory: boolean;
    readonly mode: number | null;
    readonly mtime: Date | null;
    readonly size: number;
  };
  lstatSync: DenoSocketsNamespace["lstatSync"];
  mkdirSync(path: string, options: { mode: number; recursive?: boolean }): void;
  openSync(path: string, options: { read: boolean }): {
    close(): void;
    seekSync(offset: number, whence: 0): number;
    readSync(buffer: Uint8Array): number | null;
  };
  uid(): number | null;
  renameSync(from: string, to: string): void;
  removeSync(path: string): void;
  unrefTimer(id: unknown): void;
}

/** The service adapter of Deno. A pid file takes `--allow-read` and `--allow-write` of its folder, systemd `--allow-run=systemd-notify`. */
export function denoService(
  deno: DenoServiceNamespace,
  loaded: Environment,
  mayRun: (command: string) => boolean,
  check: (path: string) => void,
  seesProc: boolean,
  supervisor: Supervisor | undefined,
): ServiceAdapter {
  function orUndefined<T>(path: string, work: () => T): T | undefined {
    check(path);
    try {
      return work();
    } catch (error) {
      if (error instanceof Error && error.name === "NotFound") return undefined;
      throw error;
    }
  }
  const remove = (path: string) => void orUndefined(path, () => deno.removeSync(path));
  /** Deno cannot open a file without waiting for a FIFO, nor refuse links: what is there is looked at first. */
  function read(path: string): string | undefined {
    const { isFile, isSymlink, size } = deno.lstatSync(path);
    if (isSymlink) return undefined;
    if (!isFile) throw new Error(`${path} is not an ordinary file`);
    if (size > LARGEST_FILE) throw new Error(`${path} is too large: it has ${size} bytes`);
    return deno.readTextFileSync(path);
  }
  return {
    supervisor,
    variable: (name) => loaded[name],
    files: () => ({
      read: (path) => orUndefined(path, () => read(path)),
      modified: (path) => orUndefined(path, () => deno.statSync(path).mtime?.getTime()),
      replace(path, text, mode = 0o600) {
        const temporary = `${path}.${deno.pid}.new`;
        remove(temporary);
        try {
          deno.writeTextFileSync(temporary, text, { mode, createNew: true });
          deno.renameSync(temporary, path);
        } catch (error) {
          remove(temporary);
          throw error;
        }
      },
      create(path) {
        check(path);
        try {
          deno.writeTextFileSync(path, "", { mode: 0o600, createNew: true });
          return true;
        } catch (error) {
          if (error instanceof Error && error.name === "AlreadyExists") return false;
          throw error;
        }
      },
      remove,
    }),
    ownFolder() {
      if (deno.build.os === "windows") {
        return windowsFolder(loaded.LOCALAPPDATA, (path) => {
          check(path);
          deno.mkdirSync(path, { mode: 0o700, recursive: true });
        });
      }
      if (!seesProc) return undefined; // Who the user is, and files outside of the program's own folders, need all permissions.
      const uid = attempt(() => deno.uid());
      if (typeof uid !== "number") return undefined;
      return ownFolder(folderCandidates(loaded.XDG_RUNTIME_DIR, loaded.TMPDIR, uid), uid, {
        make: (path) => deno.mkdirSync(path, { mode: 0o700 }),
        look: (path) => deno.lstatSync(path),
      });
    },
    errorOutput() {
      const path = "/proc/self/fd/2";
      const stat = seesProc ? attempt(() => deno.statSync(path)) : undefined;
      if (!stat?.isFile) return undefined;
      return {
        read: () =>
          attempt(() => {
            const file = deno.openSync(path, { read: true });
            try {
              file.seekSync(Math.max(stat.size, deno.statSync(path).size - MOST_OUTPUT), 0);
              const buffer = new Uint8Array(MOST_OUTPUT);
              return new TextDecoder().decode(buffer.subarray(0, file.readSync(buffer) ?? 0));
            } finally {
              file.close();
            }
          }) ?? "",
      };
    },
    isAlive(pid) {
      if (seesProc) return attempt(() => deno.statSync(`/proc/${pid}`)) !== undefined;
      try {
        return (globalThis as unknown as { process: NodeProcess }).process.kill(pid, 0);
      } catch (error) {
        return (error as { code?: unknown }).code !== "ESRCH"; // Somebody else's, or Deno does not let us know.
      }
    },
    parent: () => deno.ppid,
    startTime: (pid) => seesProc ? attempt(() => parseStartTime(deno.readTextFileSync(`/proc/${pid}/stat`))) : undefined,
    ...(deno.build.os === "windows" && { answer: answerOnPipe }),
    onExit: (handler) => (globalThis as unknown as EventTarget).addEventListener("unload", handler),
    async execute(file, args) {
      if (!mayRun(file)) {
        throw new ReloadError("permission", `Deno does not allow this process to run ${file}: add --allow-run=${file}`);
      }
      const { success, code, stderr } = await new deno.Command(file, { args, stdin: "null", stdout: "piped", stderr: "piped" })
        .output();
      if (!success) throw new Error(new TextDecoder().decode(stderr).trim() || `${file} ended with code ${code}`);
    },
    every(milliseconds, callback) {
      const timer = setInterval(callback, milliseconds);
      deno.unrefTimer(timer);
      return () => clearInterval(timer);
    },
  };
}
