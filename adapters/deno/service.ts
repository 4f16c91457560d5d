import { ReloadError } from "../../src/core/error.ts";
import type {
  BasicServiceAdapter,
  ServiceAdapter,
  Supervisor,
} from "../../src/core/service_adapter.ts";
import { attempt } from "../../src/core/attempt.ts";
import { connectChannel } from "./channel.ts";
import { serveNamedPipe } from "../../src/windows/named_pipe.ts";
import type { Snapshot } from "../shared/environment.ts";
import type { DenoNamespace } from "./namespace.ts";
import type { Permissions } from "./permissions.ts";
import { folderAndOutput, type ServiceFiles } from "../shared/runtime_dir.ts";
import { findReleaseLink, type LinkFiles, MOST_ENTRIES } from "../shared/release_link.ts";

/** The user's id, and files outside of the program's folders, need all permissions. */
function serviceFiles(deno: DenoNamespace, { checkPath, seesProc }: Permissions): ServiceFiles {
  const isWindows = deno.build.os === "windows";
  const output = "/proc/self/fd/2";
  return {
    uid: () => (seesProc ? attempt(() => deno.uid()) : undefined) ?? undefined,
    make(path) {
      if (isWindows) checkPath(path);
      deno.mkdirSync(path, { mode: 0o700, recursive: isWindows });
    },
    look: (path) => deno.lstatSync(path),
    outputSize() {
      const stat = seesProc ? attempt(() => deno.statSync(output)) : undefined;
      return stat?.isFile ? stat.size : undefined;
    },
    readOutput(buffer, from) {
      const file = deno.openSync(output, { read: true });
      try {
        file.seekSync(from, 0);
        return file.readSync(buffer) ?? 0;
      } finally {
        file.close();
      }
    },
  };
}

/**
 * The service adapter of Deno. A pid file takes `--allow-read` and `--allow-write` of its folder,
 * systemd `--allow-run=systemd-notify`.
 */
export function denoService(
  deno: DenoNamespace,
  permissions: Permissions,
  basic: BasicServiceAdapter,
  { cwd, loaded }: Snapshot,
  supervisor: Supervisor | undefined,
): ServiceAdapter {
  const isWindows = deno.build.os === "windows";
  return {
    ...basic,
    ...folderAndOutput(serviceFiles(deno, permissions), loaded, isWindows),
    supervisor,
    releaseLink: () => findReleaseLink(loaded, cwd, linkFiles(deno, permissions)),
    parent: () => deno.ppid,
    ...(isWindows && { serveNamedPipe }),
    async execute(file, args) {
      if (!permissions.isGranted("run", { command: file })) {
        throw new ReloadError(
          "permission",
          `Deno does not allow this process to run ${file}: add --allow-run=${file}`,
        );
      }
      // Deno starts nothing in a directory that was removed, as that of this process may be after a
      // deploy.
      const options = { args, cwd: "/", stdin: "null", stdout: "piped", stderr: "piped" } as const;
      const { success, code, stderr } = await new deno.Command(file, options).output();
      if (!success) {
        throw new Error(
          new TextDecoder().decode(stderr).trim() || `${file} ended with code ${code}`,
        );
      }
    },
    async connect(path) {
      permissions.checkPath(path);
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
function linkFiles(deno: DenoNamespace, { isGranted }: Permissions): LinkFiles {
  const ifReadable = <T>(path: string, work: () => T) =>
    isGranted("read", { path }) ? attempt(work) : undefined;
  return {
    links: (folder) =>
      ifReadable(
        folder,
        () =>
          [...deno.readDirSync(folder)].slice(0, MOST_ENTRIES).filter(({ isSymlink }) => isSymlink)
            .map(({ name }) => name),
      ) ?? [],
    realPath: (path) => ifReadable(path, () => deno.realPathSync(path)),
  };
}
