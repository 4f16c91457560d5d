import type { NodeProcess } from "./node_channel.ts";
import type {
  BasicServiceAdapter,
  ServiceAdapter,
  Supervisor,
} from "../../src/core/service_adapter.ts";
import { attempt } from "../../src/core/attempt.ts";
import { connectSocket } from "./socket_channel.ts";
import { folderAndOutput, type ServiceFiles } from "./runtime_dir.ts";
import { serveNamedPipe } from "../../src/windows/named_pipe.ts";
import type { Snapshot } from "./environment.ts";
import type * as FileSystem from "node:fs";
import { findReleaseLink, type LinkFiles, MOST_ENTRIES } from "./release_link.ts";

function serviceFiles(process: NodeProcess): ServiceFiles {
  const fs = process.getBuiltinModule("node:fs");
  const isWindows = process.platform === "win32";
  return {
    uid: () => process.getuid?.(),
    make: (path) => void fs.mkdirSync(path, isWindows ? { recursive: true } : { mode: 0o700 }),
    look(path) {
      const stat = fs.lstatSync(path);
      return { isDirectory: stat.isDirectory(), uid: stat.uid, mode: stat.mode };
    },
    outputSize: () =>
      attempt(() => {
        const stat = fs.fstatSync(2);
        return stat.isFile() ? stat.size : undefined;
      }),
    readOutput(buffer, from) {
      const fd = fs.openSync("/proc/self/fd/2", "r");
      try {
        return fs.readSync(fd, buffer, 0, buffer.length, from);
      } finally {
        fs.closeSync(fd);
      }
    },
  };
}

/** The service adapter of Node and Bun. */
export function nodeService(
  process: NodeProcess,
  basic: BasicServiceAdapter,
  { cwd, loaded }: Pick<Snapshot, "cwd" | "loaded">,
  supervisor: Supervisor | undefined,
): ServiceAdapter {
  const isWindows = process.platform === "win32";
  return {
    ...basic,
    ...folderAndOutput(serviceFiles(process), loaded, isWindows),
    supervisor,
    releaseLink: () => findReleaseLink(loaded, cwd, linkFiles(process.getBuiltinModule("node:fs"))),
    parent: () => process.ppid,
    ...(isWindows && { serveNamedPipe }),
    async execute(file, args) {
      const { execFile } = await import("node:child_process");
      await new Promise<void>((resolve, reject) => {
        execFile(
          file,
          args,
          (error, _, stderr) =>
            error ? reject(new Error(stderr.trim() || error.message)) : resolve(),
        );
      });
    },
    connect: connectSocket,
    every(milliseconds, callback) {
      const timer = setInterval(callback, milliseconds);
      timer.unref();
      return () => clearInterval(timer);
    },
    holders: () => process.getActiveResourcesInfo?.() ?? [], // Bun may not have it.
  };
}

/** The shell with which new processes are started where they are not started plainly. */
export function findShell(process: NodeProcess): string | undefined {
  const shell = "/bin/sh";
  return attempt(() => process.getBuiltinModule("node:fs").statSync(shell)) && shell;
}

/** What finding a link needs, on Node and Bun. */
function linkFiles(fs: typeof FileSystem): LinkFiles {
  return {
    links: (folder) =>
      attempt(() => {
        const directory = fs.opendirSync(folder);
        const names: string[] = [];
        for (let i = 0, entry; i < MOST_ENTRIES && (entry = directory.readSync()) !== null; i++) {
          if (entry.isSymbolicLink()) names.push(entry.name);
        }
        directory.closeSync();
        return names;
      }) ?? [],
    realPath: (path) => attempt(() => fs.realpathSync(path)),
  };
}
