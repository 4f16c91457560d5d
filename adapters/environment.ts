import { HANDSHAKE_VARIABLES } from "./arrival.ts";

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
  const { loaded, current } = history;
  const env: Environment = { ...(history.started ?? current) };
  if (history.started !== undefined) {
    for (const name of new Set([...Object.keys(loaded), ...Object.keys(current)])) {
      if (loaded[name] === current[name]) continue;
      if (current[name] === undefined) delete env[name];
      else env[name] = current[name];
    }
  }
  for (const name of HANDSHAKE_VARIABLES) delete env[name];
  return env;
}

/** Reads /proc/PID/environ; see proc_pid_environ(5). */
export function parseEnviron(text: string): Environment {
  const env: Environment = {};
  for (const entry of text.split("\0")) {
    const equals = entry.indexOf("=", 1);
    if (equals > 0) env[entry.slice(0, equals)] ??= entry.slice(equals + 1);
  }
  return env;
}
