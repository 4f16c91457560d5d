import { PROTOCOL } from "../reload/messages.ts";
import type { Supervisor } from "../core/service_adapter.ts";
import { ELECTION } from "./deno/threads.ts";

/** The variable that tells a new process that it is a successor: the protocol's version and the generation. */
const VARIABLE = "RELOAD_SELF";

/** The variable that names the one process which the handshake is meant for: the generation, and the pid of its parent. */
const PARENT_VARIABLE = "RELOAD_SELF_PARENT";

/** The variable that tells a new process where the old one waits for it, when it has not inherited a channel. */
export const CHANNEL_VARIABLE = "RELOAD_SELF_CHANNEL";

/** The variables of `reload-self run`: the folder of the instance, how many instances there are, and the guard of this process. */
const FOLDER_VARIABLE = "RELOAD_SELF_RUN";
const INSTANCES_VARIABLE = "RELOAD_SELF_INSTANCES";
const GUARD_VARIABLE = "RELOAD_SELF_GUARD";

const OURS = [VARIABLE, PARENT_VARIABLE, CHANNEL_VARIABLE, FOLDER_VARIABLE, INSTANCES_VARIABLE, GUARD_VARIABLE];
const OF_CHANNELS = ["NODE_CHANNEL_FD", "NODE_CHANNEL_SERIALIZATION_MODE"];

/** Does a variable belong to one start of a process, so that it must not reach the next? Ours, and those of the runtimes' channels. */
export function isOfOneStart(name: string): boolean {
  return OURS.includes(name) || OF_CHANNELS.includes(name) || name.startsWith(ELECTION);
}

/**
 * What the old process puts into the environment of the new one.
 *
 * @param parent The pid of the new process's parent. `undefined` where a command of the application's own may start it at one remove.
 */
export function handshake(generation: number, parent: number | undefined): Record<string, string> {
  return {
    [VARIABLE]: `${PROTOCOL}:${generation}`,
    ...(parent !== undefined && { [PARENT_VARIABLE]: `${generation}:${parent}` }),
  };
}

/** What `reload-self run` puts into the environment of a process that it follows. */
export function supervision({ folder, instances }: Supervisor): Record<string, string> {
  return { [FOLDER_VARIABLE]: folder, [INSTANCES_VARIABLE]: String(instances) };
}

/** The variables of this process, as far as the handshake needs them. */
export interface Variables {
  /** The value of a variable. */
  get(name: string): string | undefined;
  /** Removes a variable. */
  delete(name: string): void;
}

/** What it takes to know whether a handshake is meant for this process. */
export interface Family {
  /** The pid of this process's parent. */
  readonly parent: number;
  /** Is there such a process? `undefined` where that cannot be known. */
  isAlive(pid: number): boolean | undefined;
}

/** What a process was told by the one that started it. */
export interface Handshake {
  /** The generation of this process; `undefined` where it is not a successor. */
  readonly generation: number | undefined;
  /** Where the old process waits, when this one has not inherited a channel. */
  readonly channelPath: string | undefined;
  /** The `reload-self run` that may be this process's. */
  readonly supervisor: Supervisor | undefined;
}

/**
 * Reads what this process was told, and takes it out of the environment: it is meant for no process that this one starts. A process
 * that inherited it all the same, because it was started before the library was loaded, has another parent, and is an ordinary first
 * generation.
 */
export function takeHandshake(env: Variables, family: Family): Handshake {
  const taken = Object.fromEntries(OURS.map((name) => [name, take(env, name)]));
  const generation = parseGeneration(taken[VARIABLE] ?? "");
  const isOurs = generation !== undefined && isMeant(taken[PARENT_VARIABLE], generation, family);
  const folder = taken[FOLDER_VARIABLE];
  const guard = Number(taken[GUARD_VARIABLE]);
  return {
    generation: isOurs ? generation : undefined,
    channelPath: isOurs ? taken[CHANNEL_VARIABLE] : undefined,
    supervisor: folder === undefined ? undefined : {
      folder,
      instances: Number(taken[INSTANCES_VARIABLE] ?? 1),
      guard: Number.isSafeInteger(guard) && guard > 0 ? guard : undefined,
    },
  };
}

/** A parent that is gone has left its child to another: that child carries on alone. */
function isMeant(value: string | undefined, generation: number, { parent, isAlive }: Family): boolean {
  const [of, expected] = value?.split(":").map(Number) ?? [];
  // Another generation's, or none: the old process has an earlier version of this library, or a command of its own.
  if (expected === undefined || of !== generation) return true;
  return expected === parent || isAlive(expected) === false;
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
