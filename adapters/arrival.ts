import { PROTOCOL } from "../core/messages.ts";
import { ELECTION } from "./deno_threads.ts";

/** The variable that tells a new process that it is a successor: the protocol's version and the generation. */
const VARIABLE = "RELOAD_SELF";

/** The variable that tells a new process where the old one waits for it, when it has not inherited a channel. */
export const CHANNEL_VARIABLE = "RELOAD_SELF_CHANNEL";

const OURS = [VARIABLE, CHANNEL_VARIABLE, "NODE_CHANNEL_FD", "NODE_CHANNEL_SERIALIZATION_MODE"];

/** Does a variable belong to one start of a process, so that it must not reach the next? Ours, and those of the runtimes' channels. */
export function isOfOneStart(name: string): boolean {
  return OURS.includes(name) || name.startsWith(ELECTION);
}

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
  const value = take(env, VARIABLE);
  return value === undefined ? undefined : parseGeneration(value);
}

/** Reads where the old process waits, and takes that out of the environment as well. */
export function takeChannelPath(env: Variables): string | undefined {
  return take(env, CHANNEL_VARIABLE);
}

function take(env: Variables, name: string): string | undefined {
  const value = env.get(name);
  if (value !== undefined) env.delete(name);
  return value;
}

/** The generation in a handshake, or `undefined` when it is none of this version. */
export function parseGeneration(value: string): number | undefined {
  const match = /^(\d{1,9}):([1-9]\d{0,14})$/.exec(value);
  return match !== null && Number(match[1]) === PROTOCOL ? Number(match[2]) : undefined;
}
