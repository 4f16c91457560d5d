import { attempt } from "../../src/core/attempt.ts";
import type { Libc, RetainedSocket } from "../../src/core/socket_adapter.ts";
import { F_DUPFD_CLOEXEC } from "../../src/linux/constants.ts";

/**
 * The calls, with the types of their parameters in the words of Deno and Bun. All return a C `int`.
 */
export const CALLS: Readonly<
  Record<Exclude<keyof Libc, "addressOf" | "epollEventBytes">, readonly string[]>
> = {
  socket: ["i32", "i32", "i32"],
  bind: ["i32", "buffer", "u32"],
  connect: ["i32", "buffer", "u32"],
  listen: ["i32", "i32"],
  dup3: ["i32", "i32", "i32"],
  close: ["i32"],
  getsockopt: ["i32", "i32", "i32", "buffer", "buffer"],
  setsockopt: ["i32", "i32", "i32", "buffer", "u32"],
  getsockname: ["i32", "buffer", "buffer"],
  open: ["buffer", "i32"],
  read: ["i32", "buffer", "usize"],
  write: ["i32", "buffer", "usize"],
  readlink: ["buffer", "buffer", "usize"],
  // The third argument is variadic. Linux passes such a one in a register like any other, on x86-64
  // and on arm64.
  fcntl: ["i32", "i32", "i32"],
  ioctl: ["i32", "usize", "buffer"],
  getpeername: ["i32", "buffer", "buffer"],
  socketpair: ["i32", "i32", "i32", "buffer"],
  sendmsg: ["i32", "buffer", "i32"],
  recvmsg: ["i32", "buffer", "i32"],
  poll: ["buffer", "usize", "i32"],
  epoll_create1: ["i32"],
  epoll_ctl: ["i32", "i32", "i32", "buffer"],
  epoll_wait: ["i32", "buffer", "i32", "i32"],
};

/** The size of struct epoll_event on a processor, by its name in Deno or in Node. */
export function epollEventBytes(architecture: string): 12 | 16 {
  return architecture === "x86_64" || architecture === "x64" ? 12 : 16;
}

/** The file names of the C library: glibc's, and musl's for each processor. */
export const LIBRARIES: readonly string[] = [
  "libc.so.6",
  "libc.musl-x86_64.so.1",
  "libc.musl-aarch64.so.1",
];

/** Opens the C library under the first of its names that works. */
export function openFirst<T>(open: (name: string) => T): T | undefined {
  for (const name of LIBRARIES) {
    const opened = attempt(() => open(name));
    if (opened !== undefined) return opened;
  }
  return undefined;
}

/** The warning that a reload may lose connections. */
export function withoutLibc(why: string, flag: string): string {
  return `the sockets of Deno.serve and Bun.serve cannot be handed over because ${why}: a reload loses connections, or fails${flag}`;
}

/** The C library, where it can be called. */
export const ifUsable = (libc: Libc | string | undefined): Libc | undefined =>
  typeof libc === "object" ? libc : undefined;

/**
 * Keeps a listening socket by a second descriptor, which stays open when the first one is closed.
 */
export function retainDescriptor(
  libc: Libc | string,
  fd: number | undefined,
): RetainedSocket | undefined {
  if (typeof libc === "string" || fd === undefined || fd < 0) return undefined;
  const copy = libc.fcntl(fd, F_DUPFD_CLOEXEC, 0);
  return copy < 0 ? undefined : { source: { fd: copy }, release: () => void libc.close(copy) };
}
