import type { Libc } from "../core/socket_adapter.ts";

/** The calls, with the types of their parameters in the words of Deno and Bun. All return a C `int`. */
export const CALLS: Readonly<Record<Exclude<keyof Libc, "addressOf">, readonly string[]>> = {
  socket: ["i32", "i32", "i32"],
  bind: ["i32", "buffer", "u32"],
  listen: ["i32", "i32"],
  dup3: ["i32", "i32", "i32"],
  close: ["i32"],
  getsockopt: ["i32", "i32", "i32", "buffer", "buffer"],
  setsockopt: ["i32", "i32", "i32", "buffer", "u32"],
  getsockname: ["i32", "buffer", "buffer"],
  open: ["buffer", "i32"],
  read: ["i32", "buffer", "usize"],
  write: ["i32", "buffer", "usize"],
};

/** The file names of the C library: glibc's, and musl's for each processor. */
export const LIBRARIES: readonly string[] = ["libc.so.6", "libc.musl-x86_64.so.1", "libc.musl-aarch64.so.1"];

/** Opens the C library under the first of its names that works. */
export function openFirst<T>(open: (name: string) => T): T | undefined {
  for (const name of LIBRARIES) {
    try {
      return open(name);
    } catch {
      // It has another name.
    }
  }
  return undefined;
}

/** The warning that a reload may lose connections. */
export function withoutLibc(why: string, flag: string): string {
  return `connections to Deno.serve and Bun.serve cannot be steered to the new process because ${why}: a reload may lose some of ` +
    `them${flag}`;
}
