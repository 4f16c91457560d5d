import { PROTOCOL } from "../core/messages.ts";
import { LEADER } from "./deno_threads.ts";

/** The variable that tells a new process that it is a successor: the protocol's version and the generation. */
const VARIABLE = "RELOAD_SELF";

/** Variables that belong to one start of a process and must not reach the next: ours, and those of the runtimes' channels. */
export const HANDSHAKE_VARIABLES: readonly string[] = [VARIABLE, LEADER, "NODE_CHANNEL_FD", "NODE_CHANNEL_SERIALIZATION_MODE"];

/** What the old process puts into the environment of the new one. */
export function handshake(generation: number): Record<string, string> {
  return { [VARIABLE]: `${PROTOCOL}:${generation}` };
}

/** The variables of this process, as far as the handshake needs them. */
export interface Variables {
  /** The value of a variable. */
  get(name: string): string | undefined;
  /** Removes a variable. */
  delete(name: string): void;
}

/**
 * Reads the handshake and takes it out of the environment, so that no process that this one starts takes itself for a
 * successor. `undefined` for a process that was started in another way.
 */
export function takeGeneration(env: Variables): number | undefined {
  const value = env.get(VARIABLE);
  if (value === undefined) return undefined;
  env.delete(VARIABLE);
  return parseGeneration(value);
}

/** The generation in a handshake, or `undefined` when it is none of this version. */
export function parseGeneration(value: string): number | undefined {
  const match = /^(\d{1,9}):([1-9]\d{0,14})$/.exec(value);
  return match !== null && Number(match[1]) === PROTOCOL ? Number(match[2]) : undefined;
}
