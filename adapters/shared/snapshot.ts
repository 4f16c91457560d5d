import type { Environment } from "./environment.ts";

/** What was true when the library was loaded. The program may change it: a title overwrites the command line, on Node and Deno. */
export interface Snapshot {
  readonly cwd: string;
  readonly loaded: Environment;
  /** The text of /proc/self/cmdline; `undefined` where it cannot be read. */
  readonly cmdline: string | undefined;
  /** The text of /proc/self/environ; `undefined` where it cannot be read. */
  readonly environ: string | undefined;
}
