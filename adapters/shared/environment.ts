import { isOfOneStart } from "../../src/protocol/handshake.ts";

/** The environment variables of a process. */
export type Environment = Record<string, string | undefined>;

/** The environment of this process at three times. */
export interface EnvironmentHistory {
  /**
   * At its start, before the runtime added the variables of an env file; `undefined` where that is
   * not known.
   */
  started: Environment | undefined;
  /** When this library was loaded. */
  loaded: Environment;
  /** Now. */
  current: Environment;
}

/**
 * The environment of a new process: that of this process at its start, with the changes that the
 * program made. Variables that the runtime has read from an env file are left out, because the new
 * process reads the file again; a variable that is set would hide the new value in the file (on
 * Node, Deno and Bun alike).
 */
export function successorEnvironment(history: EnvironmentHistory): Environment {
  // Maps, because a variable may have the name "constructor".
  const loaded = new Map(Object.entries(history.loaded));
  const current = new Map(Object.entries(history.current));
  const env = new Map(Object.entries(history.started ?? history.current));
  if (history.started !== undefined) {
    for (const name of loaded.keys()) if (!current.has(name)) env.delete(name);
    for (const [name, value] of current) if (loaded.get(name) !== value) env.set(name, value);
  }
  for (const name of env.keys()) if (isOfOneStart(name)) env.delete(name);
  return Object.fromEntries(env);
}

/** Reads /proc/PID/environ; see proc_pid_environ(5). */
export function parseEnviron(text: string): Environment {
  const env = new Map<string, string>();
  for (const entry of text.split("\0")) {
    const equals = entry.indexOf("=");
    const name = entry.slice(0, equals);
    // The first one counts, as for getenv(3).
    if (equals > 0 && !env.has(name)) env.set(name, entry.slice(equals + 1));
  }
  return Object.fromEntries(env);
}

/**
 * What was true when the library was loaded. The program may change it: a title overwrites the
 * command line, on Node and Deno.
 */
export interface Snapshot {
  readonly cwd: string;
  readonly loaded: Environment;
  /** The text of /proc/self/cmdline; `undefined` where it cannot be read. */
  readonly cmdline: string | undefined;
  /** The text of /proc/self/environ; `undefined` where it cannot be read. */
  readonly environ: string | undefined;
}
