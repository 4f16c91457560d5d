import { ReloadError } from "../../core/error.ts";
import type { ServiceAdapter, Supervisor } from "../../core/service_adapter.ts";
import { attempt } from "../attempt.ts";
import { connectChannel } from "./process.ts";
import { parseStartTime } from "../../linux/proc.ts";
import { listenOnPipe } from "../../windows/pipe_listener.ts";
import type { Environment } from "../environment.ts";
import type { DenoNamespace } from "./namespace.ts";
import type { Permissions } from "./permissions.ts";
import type { NodeProcess } from "../node/process.ts";
import { LARGEST_FILE } from "../node/small_files.ts";
import { folderCandidates, MAX_OUTPUT, runtimeFolder, windowsFolder } from "../runtime_dir.ts";

/** The service adapter of Deno. A pid file takes `--allow-read` and `--allow-write` of its folder, systemd `--allow-run=systemd-notify`. */
export function denoService(
  deno: DenoNamespace,
  { isGranted, checkPath }: Permissions,
  loaded: Environment,
  seesProc: boolean,
  supervisor: Supervisor | undefined,
): ServiceAdapter {
  function orUndefined<T>(path: string, work: () => T): T | undefined {
    checkPath(path);
    try {
      return work();
    } catch (error) {
      if (error instanceof Error && error.name === "NotFound") return undefined;
      throw error;
    }
  }
  const remove = (path: string) => void orUndefined(path, () => deno.removeSync(path));
  /** Deno can neither open a FIFO without waiting nor refuse links: the kind of the file is checked first. */
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
        checkPath(path);
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
    runtimeFolder() {
      if (deno.build.os === "windows") {
        return windowsFolder(loaded.LOCALAPPDATA, (path) => {
          checkPath(path);
          deno.mkdirSync(path, { mode: 0o700, recursive: true });
        });
      }
      if (!seesProc) return undefined; // The user's id and files outside of the program's folders need all permissions.
      const uid = attempt(() => deno.uid());
      if (typeof uid !== "number") return undefined;
      return runtimeFolder(folderCandidates(loaded.XDG_RUNTIME_DIR, loaded.TMPDIR, uid), uid, {
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
              file.seekSync(Math.max(stat.size, deno.statSync(path).size - MAX_OUTPUT), 0);
              const buffer = new Uint8Array(MAX_OUTPUT);
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
        return (error as { code?: unknown }).code !== "ESRCH"; // Another user's, or Deno does not allow the question.
      }
    },
    parent: () => deno.ppid,
    startTime: (pid) => seesProc ? attempt(() => parseStartTime(deno.readTextFileSync(`/proc/${pid}/stat`))) : undefined,
    ...(deno.build.os === "windows" && { answer: listenOnPipe }),
    onExit: (handler) => (globalThis as unknown as EventTarget).addEventListener("unload", handler),
    async execute(file, args) {
      if (!isGranted("run", { command: file })) {
        throw new ReloadError("permission", `Deno does not allow this process to run ${file}: add --allow-run=${file}`);
      }
      const { success, code, stderr } = await new deno.Command(file, { args, stdin: "null", stdout: "piped", stderr: "piped" })
        .output();
      if (!success) throw new Error(new TextDecoder().decode(stderr).trim() || `${file} ended with code ${code}`);
    },
    async connect(path) {
      checkPath(path);
      return await connectChannel(deno, path);
    },
    every(milliseconds, callback) {
      const timer = setInterval(callback, milliseconds);
      deno.unrefTimer(timer);
      return () => clearInterval(timer);
    },
  };
}
