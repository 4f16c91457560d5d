/** Libraries in C on Bun. */
import type { Libc } from "../../src/core/socket_adapter.ts";
import { CALLS, epollEventBytes, openFirst, withoutLibc } from "../shared/libc.ts";

/** bun:ffi, which the type checkers of other runtimes do not know. */
export function openFfi(): BunFfi {
  const { process } = globalThis as unknown as {
    process: { getBuiltinModule(name: string): unknown };
  };
  return process.getBuiltinModule("bun:ffi") as BunFfi;
}

let libc: Libc | string | undefined;

/** The C library, through bun:ffi. Opened once: that compiles a function for each call. */
export function bunLibc(): Libc | string {
  return libc ??= openLibc(openFfi());
}

function openLibc(ffi: BunFfi): Libc | string {
  const calls = Object.fromEntries(
    Object.entries(CALLS).map(([name, args]) => [name, { args, returns: "i32" }]),
  );
  const library = openFirst((name) => ffi.dlopen(name, calls));
  if (library === undefined) return withoutLibc("the C library is not found", "");
  return {
    ...library.symbols,
    addressOf: (buffer) => BigInt(ffi.ptr(buffer)),
    epollEventBytes: epollEventBytes(globalThis.process.arch),
  };
}

/** The part of bun:ffi that is used here. */
export interface BunFfi {
  dlopen(name: string, calls: object): { symbols: Omit<Libc, "addressOf" | "epollEventBytes"> };
  ptr(buffer: Uint8Array): number;
}
