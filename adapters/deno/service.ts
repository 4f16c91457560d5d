import { ReloadError } from "../../core/error.ts";
import type { Files } from "../../core/files.ts";
import type { ServiceAdapter, Supervisor } from "../../core/service_adapter.ts";
import { attempt } from "../attempt.ts";
import { connectChannel } from "./process.ts";
import { parseStartTime } from "../../linux/proc.ts";
import { listenOnPipe } from "../../windows/pipe_listener.ts";
import type { Environment } from "../environment.ts";
import type { DenoNamespace } from "./namespace.ts";
import type { Permissions } from "./permissions.ts";
import type { NodeProcess } from "../node/process.ts";
import { folderCandidates, MAX_OUTPUT, runtimeFolder, windowsFolder } from "../runtime_dir.ts";

/** The service adapter of Deno. A pid file takes `--allow-read` and `--allow-write` of its folder, systemd `--allow-run=systemd-notify`. */
export function denoService(
  deno: DenoNamespace,
  { isGranted, checkPath }: Permissions,
  loaded: Environment,
  files: Files,
  seesProc: boolean,
  supervisor: Supervisor | undefined,
): ServiceAdapter {
  return {
    supervisor,
    variable: (name) => loaded[name],
    files: () => files,
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
