/**
 * Reading /proc through the C library: a runtime may forbid it to its own functions, and Deno does
 * unless everything is allowed.
 */
import type { Libc } from "../core/socket_adapter.ts";
import { SOCK_CLOEXEC } from "./constants.ts";
import { parseSocketInode } from "./proc.ts";

/** The bytes that are read at once where the rest of a long table is not wanted. */
const BLOCK_BYTES = 2 ** 12;

const decoder = new TextDecoder();
const encoder = new TextEncoder();
const linkBytes = new Uint8Array(128);

/** Reads a file of /proc from its beginning until `isEnough`. `""` where it cannot be read. */
export function readProc(
  libc: Libc,
  path: string,
  isEnough: (part: string) => boolean = () => false,
  blockBytes: number = BLOCK_BYTES,
): string {
  const fd = libc.open(encoder.encode(`${path}\0`), SOCK_CLOEXEC);
  if (fd < 0) return "";
  try {
    const block = new Uint8Array(blockBytes);
    let read = "";
    for (;;) {
      const count = libc.read(fd, block, blockBytes);
      if (count <= 0) return read;
      read += decoder.decode(block.subarray(0, count));
      if (isEnough(read)) return read;
    }
  } finally {
    libc.close(fd);
  }
}

/** All possible descriptors, for a process that may not list those that it has. */
export function possibleDescriptors(libc: Libc): number[] {
  const size = /^FDSize:\s*(\d+)/m.exec(
    readProc(libc, "/proc/self/status", (part) => part.includes("\nFDSize:\t")),
  );
  return Array.from({ length: Number(size?.[1] ?? 1024) }, (_, fd) => fd);
}

/**
 * What a descriptor leads to, as proc_pid_fd(5) has it: `socket:[4711]`, a path. `undefined` where
 * it is not open.
 */
export function readDescriptor(libc: Libc, fd: number): string | undefined {
  const count = libc.readlink(encoder.encode(`/proc/self/fd/${fd}\0`), linkBytes, linkBytes.length);
  return count > 0 ? decoder.decode(linkBytes.subarray(0, count)) : undefined;
}

/** The inode of an open socket; `undefined` for another file. */
export function socketInode(libc: Libc, fd: number): number | undefined {
  const inode = parseSocketInode(readDescriptor(libc, fd));
  return inode === undefined ? undefined : Number(inode);
}
