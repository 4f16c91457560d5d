import { KERNEL, type Kernel32 } from "../../src/windows/console.ts";
import { openFfi } from "./libc.ts";

/** Windows' own library. */
export function openKernel(): Kernel32 {
  const { symbols } = openFfi().dlopen(KERNEL, { AttachConsole: { args: ["u32"], returns: "i32" } });
  return symbols as unknown as Kernel32;
}
