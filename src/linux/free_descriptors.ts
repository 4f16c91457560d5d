/** Which descriptors a process may still open. */
import type { Libc } from "../core/socket_adapter.ts";
import { duplicate } from "./transplant.ts";

/**
 * How many are left to the program when there are few: Deno 2.9 ends a server that gets none for a
 * new connection (deno_http, `Http: Error: Too many open files`).
 */
export const SPARE = 64;

/**
 * The descriptors that are given out next, if no other is opened or closed meanwhile: the kernel
 * takes the lowest numbers that are free (dup(2)). Fewer than asked for where there are no more.
 *
 * @param any An open descriptor.
 */
export function nextDescriptors(libc: Libc, any: number, count: number): number[] {
  const fds: number[] = [];
  for (let fd; fds.length < count && (fd = duplicate(libc, any)) >= 0;) fds.push(fd);
  for (const fd of fds) libc.close(fd);
  return fds;
}

/**
 * How many descriptors may be opened of so many that are asked for: enough are left to the program.
 *
 * @param any An open descriptor.
 */
export function roomFor(libc: Libc, any: number, count: number): number {
  return Math.max(0, nextDescriptors(libc, any, count + SPARE).length - SPARE);
}
