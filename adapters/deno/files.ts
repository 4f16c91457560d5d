import type { Files } from "../../src/core/files.ts";
import { MAX_FILE_BYTES, replaceFile } from "../shared/node_files.ts";
import { attempt } from "../../src/core/attempt.ts";
import type { DenoNamespace } from "./namespace.ts";

function isError(error: unknown, name: string): boolean {
  return error instanceof Error && error.name === name;
}

/** The files of Deno. Each operation takes `--allow-read` and `--allow-write` of the path; `check` throws where they are missing. */
export function denoFiles(deno: DenoNamespace, check: (path: string) => void): Files {
  function orUndefined<T>(path: string, work: () => T): T | undefined {
    check(path);
    try {
      return work();
    } catch (error) {
      if (isError(error, "NotFound")) return undefined;
      throw error;
    }
  }
  /** Deno can neither open a FIFO without waiting nor refuse links: the kind of the file is checked first. */
  function read(path: string): string | undefined {
    const { isFile, isSymlink, size } = deno.lstatSync(path);
    if (isSymlink) return undefined;
    if (!isFile) throw new Error(`${path} is not an ordinary file`);
    if (size > MAX_FILE_BYTES) throw new Error(`${path} is too large: it has ${size} bytes`);
    return deno.readTextFileSync(path);
  }

  const files: Files = {
    read: (path) => orUndefined(path, () => read(path)),
    modified: (path) => orUndefined(path, () => deno.statSync(path).mtime?.getTime()),
    replace(path, text, mode = 0o600) {
      replaceFile(files, path, deno.pid, (temporary) => deno.writeTextFileSync(temporary, text, { mode, createNew: true }));
    },
    create(path) {
      check(path);
      try {
        deno.writeTextFileSync(path, "", { mode: 0o600, createNew: true });
        return true;
      } catch (error) {
        if (isError(error, "AlreadyExists")) return false;
        throw error;
      }
    },
    list(folder) {
      return attempt(() => {
        check(folder);
        return Array.from(deno.readDirSync(folder), ({ name }) => name);
      }) ?? [];
    },
    remove: (path) => void orUndefined(path, () => deno.removeSync(path)),
    kind(path) {
      const info = orUndefined(path, () => deno.lstatSync(path));
      return info === undefined ? "nothing" : info.isSocket ? "socket" : "other";
    },
    access(path) {
      const { uid, gid, mode } = deno.lstatSync(path);
      return { uid: uid ?? 0, gid: gid ?? 0, mode: (mode ?? 0o700) & 0o7777 };
    },
    chown: deno.chownSync,
    chmod: deno.chmodSync,
    link: deno.linkSync,
    rename: deno.renameSync,
  };
  return files;
}
