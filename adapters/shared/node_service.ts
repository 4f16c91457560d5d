import type { NodeProcess } from "./node_channel.ts";
import type { BasicServiceAdapter, ServiceAdapter, Supervisor } from "../../src/core/service_adapter.ts";
import { attempt } from "../../src/core/attempt.ts";
import { connectSocket } from "./socket_channel.ts";
import { folderCandidates, MAX_OUTPUT, runtimeFolder, windowsFolder } from "./runtime_dir.ts";
import { serveNamedPipe } from "../../src/windows/named_pipe.ts";
import type { Environment } from "./environment.ts";
import type * as FileSystem from "node:fs";
import { type LinkFiles, MOST_ENTRIES } from "./release_link.ts";

/** The service adapter of Node and Bun. */
export function nodeService(
  process: NodeProcess,
  basic: BasicServiceAdapter,
  loaded: Environment,
  supervisor: Supervisor | undefined,
): ServiceAdapter {
  return {
    ...basic,
    supervisor,
    runtimeFolder() {
      const fs = process.getBuiltinModule("node:fs");
      if (process.platform === "win32") {
        return windowsFolder(loaded.LOCALAPPDATA, (path) => fs.mkdirSync(path, { recursive: true }));
      }
      const uid = process.getuid?.();
      if (uid === undefined) return undefined;
      const { XDG_RUNTIME_DIR: runtime, TMPDIR: temporary } = loaded;
      return runtimeFolder(folderCandidates(runtime, temporary, uid), uid, {
        make: (path) => fs.mkdirSync(path, { mode: 0o700 }),
        look(path) {
          const stat = fs.lstatSync(path);
          return { isDirectory: stat.isDirectory(), uid: stat.uid, mode: stat.mode };
        },
      });
    },
    errorOutput() {
      const fs = process.getBuiltinModule("node:fs");
      const stat = attempt(() => fs.fstatSync(2));
      if (!stat?.isFile()) return undefined;
      return {
        read: () =>
          attempt(() => {
            const fd = fs.openSync("/proc/self/fd/2", "r");
            try {
              const { size } = fs.fstatSync(fd);
              const begin = Math.max(stat.size, size - MAX_OUTPUT);
              const buffer = new Uint8Array(Math.max(0, size - begin));
              return new TextDecoder().decode(buffer.subarray(0, fs.readSync(fd, buffer, 0, buffer.length, begin)));
            } finally {
              fs.closeSync(fd);
            }
          }) ?? "",
      };
    },
    parent: () => process.ppid,
    ...(process.platform === "win32" && { serveNamedPipe }),
    async execute(file, args) {
      const { execFile } = await import("node:child_process");
      await new Promise<void>((resolve, reject) => {
        execFile(file, args, (error, _, stderr) => error ? reject(new Error(stderr.trim() || error.message)) : resolve());
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
export function linkFiles(fs: typeof FileSystem): LinkFiles {
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
