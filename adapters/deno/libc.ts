/** The C library on Deno. */
import type { Libc } from "../../src/core/socket_adapter.ts";
import { CALLS, epollEventBytes, openFirst, withoutLibc } from "../shared/libc.ts";
import type { DenoNamespace } from "./namespace.ts";

let libc: Libc | string | undefined;

/** The C library, through Deno.dlopen. Opened once: that compiles a function for each call. */
export function denoLibc(deno: DenoNamespace, isAllowed: boolean): Libc | string {
  return libc ??= openLibc(deno, isAllowed);
}

function openLibc(deno: DenoNamespace, isAllowed: boolean): Libc | string {
  if (!isAllowed) {
    return withoutLibc("Deno does not allow foreign function calls", ". Add --allow-ffi");
  }
  const calls = Object.fromEntries(
    Object.entries(CALLS).map(([name, parameters]) => [name, { parameters, result: "i32" }]),
  );
  const library = openFirst((name) => deno.dlopen(name, calls));
  if (library === undefined) return withoutLibc("the C library is not found", "");
  return {
    ...library.symbols,
    addressOf: (buffer) => deno.UnsafePointer.value(deno.UnsafePointer.of(buffer)),
    epollEventBytes: epollEventBytes(deno.build.arch),
  };
}
