/** Files in places where another user may have put another file, with node:fs. */
import type * as FileSystem from "node:fs";
import type { Files } from "../../src/core/files.ts";
import { attempt } from "../../src/core/attempt.ts";
import type { NodeProcess } from "./node_channel.ts";

/** In bytes. A status file, a pid file, a table of /proc are smaller. */
export const MAX_FILE_BYTES: number = 256 * 1024;

/** A file that was read. */
export interface SmallFile {
  readonly text: string;
  /** The user that owns the file. */
  readonly uid: number;
}

/**
 * Reads an ordinary file. Throws for a link, for a file of another kind, and for one that is too large. The open file is checked, so that no
 * other can be put in its place in between. A FIFO without a writer does not make it wait.
 */
export function readSmallFile(fs: typeof FileSystem, path: string): SmallFile {
  const { O_RDONLY, O_NOFOLLOW = 0, O_NONBLOCK = 0 } = fs.constants;
  const fd = fs.openSync(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  try {
    const stat = fs.fstatSync(fd);
    if (!stat.isFile()) throw new Error(`${path} is not an ordinary file`);
    if (stat.size > MAX_FILE_BYTES) throw new Error(`${path} is too large: it has ${stat.size} bytes`);
    const buffer = new Uint8Array(stat.size || MAX_FILE_BYTES); // The size of a file of /proc is 0.
    let length = 0;
    for (let count; (count = fs.readSync(fd, buffer, length, buffer.length - length, null)) > 0;) length += count;
    return { text: new TextDecoder().decode(buffer.subarray(0, length)), uid: stat.uid };
  } finally {
    fs.closeSync(fd);
  }
}

/** `undefined` where there is no file, or a link. */
function orUndefined<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch (error) {
    const { code } = error as { code?: unknown };
    if (code === "ENOENT" || code === "ELOOP") return undefined;
    throw error;
  }
}

/** The files of Node and Bun. */
export function nodeFiles(process: NodeProcess): Files {
  const fs = process.getBuiltinModule("node:fs");
  const files: Files = {
    read: (path) => orUndefined(() => readSmallFile(fs, path).text),
    modified: (path) => orUndefined(() => fs.statSync(path).mtimeMs),
    replace(path, text, mode = 0o600) {
      replaceFile(files, path, process.pid, (temporary) => fs.writeFileSync(temporary, text, { mode, flag: "wx" }));
    },
    create(path) {
      try {
        fs.writeFileSync(path, "", { mode: 0o600, flag: "wx" });
        return true;
      } catch (error) {
        if ((error as { code?: unknown }).code === "EEXIST") return false;
        throw error;
      }
    },
    list: (folder) => attempt(() => fs.readdirSync(folder)) ?? [],
    remove: (path) => fs.rmSync(path, { force: true }),
    kind(path) {
      const info = fs.lstatSync(path, { throwIfNoEntry: false });
      return info === undefined ? "nothing" : info.isSocket() ? "socket" : "other";
    },
    access(path) {
      const { uid, gid, mode } = fs.lstatSync(path);
      return { uid, gid, mode: mode & 0o7777 };
    },
    chown: fs.lchownSync,
    chmod: fs.chmodSync,
    link: fs.linkSync,
    rename: fs.renameSync,
  };
  return files;
}

/**
 * Replaces a file in one step, and leaves nothing behind when that fails.
 *
 * @param write Writes the new file under a name at which there is none; must not follow a link.
 */
export function replaceFile(
  { remove, rename }: Pick<Files, "remove" | "rename">,
  path: string,
  pid: number,
  write: (temporary: string) => void,
): void {
  const temporary = `${path}.${pid}.new`;
  remove(temporary);
  try {
    write(temporary);
    rename(temporary, path);
  } catch (error) {
    remove(temporary);
    throw error;
  }
}
