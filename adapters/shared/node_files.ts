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
 * Reads an ordinary file. Throws for a link, for a file of another kind, and for one that is too
 * large. The open file is checked, so that no other can be put in its place in between. A FIFO
 * without a writer does not make it wait.
 */
export function readSmallFile(fs: typeof FileSystem, path: string): SmallFile {
  const { O_RDONLY, O_NOFOLLOW = 0, O_NONBLOCK = 0 } = fs.constants;
  const fd = fs.openSync(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  try {
    const stat = fs.fstatSync(fd);
    if (!stat.isFile()) throw new Error(`${path} is not an ordinary file`);
    if (stat.size > MAX_FILE_BYTES) {
      throw new Error(`${path} is too large: it has ${stat.size} bytes`);
    }
    const buffer = new Uint8Array(stat.size || MAX_FILE_BYTES); // The size of a file of /proc is 0.
    let length = 0;
    for (let count; (count = fs.readSync(fd, buffer, length, buffer.length - length, null)) > 0;) {
      length += count;
    }
    return { text: new TextDecoder().decode(buffer.subarray(0, length)), uid: stat.uid };
  } finally {
    fs.closeSync(fd);
  }
}

/** The calls of a runtime that work on files. They throw the errors of the runtime. */
export interface FileCalls extends Pick<Files, "chown" | "chmod" | "link" | "rename"> {
  /** Throws where a path may not be used. */
  check(path: string): void;
  read(path: string): string | undefined;
  modified(path: string): number | undefined;
  /** Writes a file under a name at which there is none. Does not follow a link. */
  writeNew(path: string, text: string, mode: number): void;
  list(folder: string): string[];
  remove(path: string): void;
  /** What is at a path; links are not followed. */
  look(
    path: string,
  ): { isSocket: boolean | null; uid: number | null; gid: number | null; mode: number | null };
  /** Whether the error means that there is no file, or a link. */
  isMissing(error: unknown): boolean;
  /** Whether the error means that there is a file already. */
  isTaken(error: unknown): boolean;
}

/** The operations on files, on all runtimes. */
export function createFiles(pid: number, calls: FileCalls): Files {
  const { check, look, remove, rename, writeNew } = calls;
  function orUndefined<T>(path: string, work: (path: string) => T): T | undefined {
    check(path);
    try {
      return work(path);
    } catch (error) {
      if (calls.isMissing(error)) return undefined;
      throw error;
    }
  }
  return {
    read: (path) => orUndefined(path, calls.read),
    modified: (path) => orUndefined(path, calls.modified),
    /** In one step; leaves nothing behind when that fails. */
    replace(path, text, mode = 0o600) {
      const temporary = `${path}.${pid}.new`;
      orUndefined(temporary, remove);
      try {
        writeNew(temporary, text, mode);
        rename(temporary, path);
      } catch (error) {
        orUndefined(temporary, remove);
        throw error;
      }
    },
    create(path) {
      check(path);
      try {
        writeNew(path, "", 0o600);
        return true;
      } catch (error) {
        if (calls.isTaken(error)) return false;
        throw error;
      }
    },
    list: (folder) => attempt(() => (check(folder), calls.list(folder))) ?? [],
    remove: (path) => void orUndefined(path, remove),
    kind(path) {
      const info = orUndefined(path, look);
      return info === undefined ? "nothing" : info.isSocket ? "socket" : "other";
    },
    access(path) {
      const { uid, gid, mode } = look(path);
      return { uid: uid ?? 0, gid: gid ?? 0, mode: (mode ?? 0o700) & 0o7777 };
    },
    chown: calls.chown,
    chmod: calls.chmod,
    link: calls.link,
    rename,
  };
}

/** The files of Node and Bun. */
export function nodeFiles(process: NodeProcess): Files {
  const fs = process.getBuiltinModule("node:fs");
  const isCode = (...codes: unknown[]) => (error: unknown) =>
    codes.includes((error as { code?: unknown }).code);
  return createFiles(process.pid, {
    check() {},
    read: (path) => readSmallFile(fs, path).text,
    modified: (path) => fs.statSync(path).mtimeMs,
    writeNew: (path, text, mode) => fs.writeFileSync(path, text, { mode, flag: "wx" }),
    list: fs.readdirSync,
    remove: (path) => fs.rmSync(path, { force: true }),
    look(path) {
      const stat = fs.lstatSync(path);
      return { isSocket: stat.isSocket(), uid: stat.uid, gid: stat.gid, mode: stat.mode };
    },
    isMissing: isCode("ENOENT", "ELOOP"),
    isTaken: isCode("EEXIST"),
    chown: fs.lchownSync,
    chmod: fs.chmodSync,
    link: fs.linkSync,
    rename: fs.renameSync,
  });
}
