import { isOfOneStart } from "./environment_handshake.ts";

/** Variables of a process. */
export type Environment = Record<string, string | undefined>;

/** What is known about the environment of this process. */
export interface EnvironmentHistory {
  /** As the operator started the process, before a runtime added the variables of an env file; `undefined`: not known. */
  started: Environment | undefined;
  /** When this library was loaded. */
  loaded: Environment;
  /** Now. */
  current: Environment;
}

/**
 * The environment of a new process: the one that the operator started this process with, and what the program has changed
 * since. What the runtime itself had read from an env file is left out, because the new process reads that file again; a
 * variable that is already set would hide what the file says now (Node, Deno and Bun alike).
 */
export function successorEnvironment(history: EnvironmentHistory): Environment {
  // In maps, because "constructor" is a name that a variable may have.
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
    if (equals > 0 && !env.has(name)) env.set(name, entry.slice(equals + 1)); // As getenv(3) does: the first one counts.
  }
  return Object.fromEntries(env);
}
