import { attempt } from "../core/attempt.ts";

/** The library that has AttachConsole, and its name. */
export const KERNEL = "kernel32.dll";

/** What of that library is used. */
export interface Kernel32 {
  AttachConsole(pid: number): number;
}

/**
 * Puts a successor on the console of its predecessor, so that CTRL_BREAK reaches it: a detached
 * process is on none. Where there is no console, or no foreign function calls (Node), only
 * `reload-self reload` reloads it.
 */
export function attachConsole(predecessor: number, open: () => Kernel32): void {
  attempt(() => open().AttachConsole(predecessor)); // Foreign function calls may not be allowed.
}
