import { ReloadError } from "../../src/core/error.ts";
import type { BasicServiceAdapter, ServiceAdapter, Supervisor } from "../../src/core/service_adapter.ts";
import { attempt } from "../../src/core/attempt.ts";
import { connectChannel } from "./channel.ts";
import { serveNamedPipe } from "../../src/windows/named_pipe.ts";
import type { Environment } from "../shared/environment.ts";
import type { DenoNamespace } from "./namespace.ts";
import type { Permissions } from "./permissions.ts";
import { folderCandidates, MAX_OUTPUT, runtimeFolder, windowsFolder } from "../shared/runtime_dir.ts";
import { type LinkFiles, MOST_ENTRIES } from "../shared/release_link.ts";

/** The service adapter of Deno. A pid file takes `--allow-read` and `--allow-write` of its folder, systemd `--allow-run=systemd-notify`. */
export function denoService(
  deno: DenoNamespace,
  { isGranted, checkPath, seesProc }: Permissions,
  basic: BasicServiceAdapter,
  loaded: Environment,
  supervisor: Supervisor | undefined,
): ServiceAdapter {
  return {
    ...basic,
    supervisor,
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
    parent: () => deno.ppid,
    ...(deno.build.os === "windows" && { serveNamedPipe }),
    async execute(file, args) {
      if (!isGranted("run", { command: file })) {
        throw new ReloadError("permission", `Deno does not allow this process to run ${file}: add --allow-run=${file}`);
      }
      // Deno starts nothing in a directory that was removed, as that of this process may be after a deploy.
      const options = { args, cwd: "/", stdin: "null", stdout: "piped", stderr: "piped" } as const;
      const { success, code, stderr } = await new deno.Command(file, options).output();
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

/** What finding a link needs, as far as `--allow-read` goes. */
export function linkFiles(deno: DenoNamespace, { isGranted }: Permissions): LinkFiles {
  const ifReadable = <T>(path: string, work: () => T) => isGranted("read", { path }) ? attempt(work) : undefined;
  return {
    links: (folder) =>
      ifReadable(
        folder,
        () => [...deno.readDirSync(folder)].slice(0, MOST_ENTRIES).filter(({ isSymlink }) => isSymlink).map(({ name }) => name),
      ) ?? [],
    realPath: (path) => ifReadable(path, () => deno.realPathSync(path)),
  };
}
