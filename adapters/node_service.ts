import type { NodeProcess } from "./node_process.ts";
import type { ServiceAdapter } from "../core/service_adapter.ts";
import { attempt } from "./attempt.ts";
import type { Environment } from "./environment.ts";

function orUndefined<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch (error) {
    if ((error as { code?: unknown }).code === "ENOENT") return undefined;
    throw error;
  }
}

/** The service adapter of Node and Bun. */
export function nodeService(process: NodeProcess, loaded: Environment): ServiceAdapter {
  return {
    variable: (name) => loaded[name],
    files() {
      const fs = process.getBuiltinModule("node:fs");
      return {
        read: (path) => orUndefined(() => fs.readFileSync(path, "utf8")),
        modified: (path) => orUndefined(() => fs.statSync(path).mtimeMs),
        replace(path, text) {
          const temporary = `${path}.${process.pid}.new`;
          fs.rmSync(temporary, { force: true });
          fs.writeFileSync(temporary, text, { mode: 0o600, flag: "wx" }); // Never through a link that somebody has put there.
          try {
            fs.renameSync(temporary, path);
          } catch (error) {
            fs.rmSync(temporary, { force: true });
            throw error;
          }
        },
        remove: (path) => fs.rmSync(path, { force: true }),
      };
    },
    isAlive(pid) {
      try {
        return process.kill(pid, 0);
      } catch (error) {
        return (error as { code?: unknown }).code === "EPERM"; // Somebody else's.
      }
    },
    parent: () => process.ppid,
    onExit: (handler) => void process.on("exit", handler),
    async execute(file, args) {
      const { execFile } = await import("node:child_process");
      await new Promise<void>((resolve, reject) => {
        execFile(file, args, (error, _, stderr) => error ? reject(new Error(stderr.trim() || error.message)) : resolve());
      });
    },
    every(milliseconds, callback) {
      const timer = setInterval(callback, milliseconds);
      timer.unref();
      return () => clearInterval(timer);
    },
  };
}

/** The shell that new processes are started through where they are to be disowned. */
export function findShell(process: NodeProcess): string | undefined {
  const shell = "/bin/sh";
  return attempt(() => process.getBuiltinModule("node:fs").statSync(shell)) && shell;
}
