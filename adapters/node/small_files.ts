/** Small files in places where another user may have put another file, with node:fs. */
import type * as FileSystem from "node:fs";

/** In bytes. A status file, a pid file, a table of /proc are smaller. */
export const LARGEST_FILE: number = 256 * 1024;

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
    if (stat.size > LARGEST_FILE) throw new Error(`${path} is too large: it has ${stat.size} bytes`);
    const buffer = new Uint8Array(stat.size || LARGEST_FILE); // The size of a file of /proc is 0.
    let length = 0;
    for (let count; (count = fs.readSync(fd, buffer, length, buffer.length - length, null)) > 0;) length += count;
    return { text: new TextDecoder().decode(buffer.subarray(0, length)), uid: stat.uid };
  } finally {
    fs.closeSync(fd);
  }
}

/** Replaces a file in one step, never through a link. Leaves nothing behind when it fails. */
export function replaceFile(fs: typeof FileSystem, path: string, text: string, pid: number, mode: number = 0o600): void {
  const temporary = `${path}.${pid}.new`;
  fs.rmSync(temporary, { force: true });
  try {
    fs.writeFileSync(temporary, text, { mode, flag: "wx" });
    fs.renameSync(temporary, path);
  } catch (error) {
    fs.rmSync(temporary, { force: true });
    throw error;
  }
}

/** Makes an empty file. Returns `false` where there is one already. */
export function createFile(fs: typeof FileSystem, path: string): boolean {
  try {
    fs.closeSync(fs.openSync(path, "wx", 0o600));
    return true;
  } catch (error) {
    if ((error as { code?: unknown }).code === "EEXIST") return false;
    throw error;
  }
}
