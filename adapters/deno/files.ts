import type { Files } from "../../src/core/files.ts";
import { createFiles, MAX_FILE_BYTES } from "../shared/node_files.ts";
import type { DenoNamespace } from "./namespace.ts";

const isNamed = (name: string) => (error: unknown) => error instanceof Error && error.name === name;

/**
 * The files of Deno. Each operation takes `--allow-read` and `--allow-write` of the path; `check`
 * throws where they are missing.
 */
export function denoFiles(deno: DenoNamespace, check: (path: string) => void): Files {
  return createFiles(deno.pid, {
    check,
    /**
     * Deno can neither open a FIFO without waiting nor refuse links: the kind of the file is
     * checked first.
     */
    read(path) {
      const { isFile, isSymlink, size } = deno.lstatSync(path);
      if (isSymlink) return undefined;
      if (!isFile) throw new Error(`${path} is not an ordinary file`);
      if (size > MAX_FILE_BYTES) throw new Error(`${path} is too large: it has ${size} bytes`);
      return deno.readTextFileSync(path);
    },
    modified: (path) => deno.statSync(path).mtime?.getTime(),
    writeNew: (path, text, mode) => deno.writeTextFileSync(path, text, { mode, createNew: true }),
    list: (folder) => Array.from(deno.readDirSync(folder), ({ name }) => name),
    remove: deno.removeSync,
    look: deno.lstatSync,
    isMissing: isNamed("NotFound"),
    isTaken: isNamed("AlreadyExists"),
    chown: deno.chownSync,
    chmod: deno.chmodSync,
    link: deno.linkSync,
    rename: deno.renameSync,
  });
}
