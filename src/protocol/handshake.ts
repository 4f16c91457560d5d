import type { InheritedAddress } from "../core/native.ts";
import { PROTOCOL } from "./reload.ts";
import type { CheckOrder, Supervisor } from "../core/service_adapter.ts";

/** The variable of a successor: the version of the protocol, and the generation. */
const VARIABLE = "RELOAD_SELF";

/**
 * The variable that names the process for which the handshake is meant: the generation, and the pid
 * of its parent.
 */
const PARENT_VARIABLE = "RELOAD_SELF_PARENT";

/**
 * The variable with the path at which the old process accepts a connection, when the new one has
 * not inherited a channel.
 */
export const CHANNEL_VARIABLE = "RELOAD_SELF_CHANNEL";

/**
 * The variable that tells a successor where the descriptors are that it gets; see
 * src/linux/descriptor_channel.ts.
 */
const DESCRIPTORS_VARIABLE = "RELOAD_SELF_DESCRIPTORS";

/**
 * The variable with the addresses of the native servers and datagram sockets that a successor gets.
 */
const NATIVE_VARIABLE = "RELOAD_SELF_NATIVE";

/**
 * The variables of `reload-self run`: the folder of the instance, how many instances there are, the
 * guard of this process, and the check of new versions: milliseconds, and an address.
 */
const FOLDER_VARIABLE = "RELOAD_SELF_RUN";
const INSTANCES_VARIABLE = "RELOAD_SELF_INSTANCES";
const GUARD_VARIABLE = "RELOAD_SELF_GUARD";
const CHECK_VARIABLE = "RELOAD_SELF_RUN_CHECK";
const OF_RUN = [FOLDER_VARIABLE, INSTANCES_VARIABLE, GUARD_VARIABLE, CHECK_VARIABLE];

/**
 * Prefix of the variables by which the threads of a process elect the one that reloads; see
 * adapters/deno/threads.ts.
 */
export const ELECTION = "RELOAD_SELF_THREAD";

const OURS = [
  VARIABLE,
  PARENT_VARIABLE,
  CHANNEL_VARIABLE,
  DESCRIPTORS_VARIABLE,
  NATIVE_VARIABLE,
  ...OF_RUN,
];
/** Node's: the channel of a process to its parent, and what `node --watch` wants to hear on it. */
const OF_CHANNELS = [
  "NODE_CHANNEL_FD",
  "NODE_CHANNEL_SERIALIZATION_MODE",
  "WATCH_REPORT_DEPENDENCIES",
];

/** Whether a variable is meant for one process only. Ours, and those of the runtimes' channels. */
export function isOfOneStart(name: string): boolean {
  return OURS.includes(name) || OF_CHANNELS.includes(name) || name.startsWith(ELECTION);
}

/**
 * The variables for a successor.
 *
 * @param parent The pid of its parent. `undefined` where a `command` of the application may start
 * it indirectly.
 */
export function handshake(generation: number, parent: number | undefined): Record<string, string> {
  return {
    [VARIABLE]: `${PROTOCOL}:${generation}`,
    ...(parent !== undefined && { [PARENT_VARIABLE]: `${generation}:${parent}` }),
  };
}

/** The variables for a process that `reload-self run` follows. */
export function supervision({ folder, instances, check }: Supervisor): Record<string, string> {
  return {
    [FOLDER_VARIABLE]: folder,
    [INSTANCES_VARIABLE]: String(instances),
    ...(check && { [CHECK_VARIABLE]: `${check.timeout} ${check.url}` }),
  };
}

function parseCheck(value: string): CheckOrder | undefined {
  const [, timeout, url] = /^(\d{1,9}) (https?:.+)$/.exec(value) ?? [];
  return url === undefined ? undefined : { timeout: Number(timeout), url };
}

/** The variable for a successor that gets sockets which it has to know when it opens its own. */
export function nativeVariable(native: string | undefined): Record<string, string | undefined> {
  return { [NATIVE_VARIABLE]: native };
}

/** The variables for a successor that gets descriptors, perhaps of such sockets. */
export function descriptorVariables(
  descriptors: string,
  native: string | undefined,
): Record<string, string | undefined> {
  return { [DESCRIPTORS_VARIABLE]: descriptors, ...nativeVariable(native) };
}

/** The environment variables of this process. */
export interface Variables {
  /** The value of a variable. */
  get(name: string): string | undefined;
  /** Removes a variable. */
  delete(name: string): void;
}

/** What shows whether a handshake is meant for this process. */
export interface ParentCheck {
  /** The pid of this process's parent. */
  readonly parent: number;
  /** Whether there is a process with this pid. `undefined` where that is not known. */
  isAlive(pid: number): boolean | undefined;
}

/** The handshake with the process that started this one. */
export interface Handshake {
  /** The generation of this process; `undefined` where it is not a successor. */
  readonly generation: number | undefined;
  /** Where the old process accepts a connection, when this one has not inherited a channel. */
  readonly channelPath: string | undefined;
  /** The descriptors that this process gets. */
  readonly descriptors: string | undefined;
  /** The native servers and datagram sockets that it gets. */
  readonly native: string | undefined;
  /** The `reload-self run` that may follow this process. */
  readonly supervisor: Supervisor | undefined;
  /**
   * Takes out what is for the first process that listens, whichever that is. npm and the like load
   * this library too where it is preloaded: they leave it to the program that they start.
   */
  takeRest(): void;
}

/**
 * Takes the handshake out of the environment, so that no process that this one starts inherits it.
 * A process that inherited it nevertheless, because it was started before the library was loaded,
 * has another parent: it is an ordinary first generation.
 */
export function takeHandshake(env: Variables, family: ParentCheck): Handshake {
  const taken = Object.fromEntries(OURS.map((name) => [name, env.get(name)]));
  const generation = parseGeneration(taken[VARIABLE] ?? "");
  const isOurs = generation !== undefined && isMeant(taken[PARENT_VARIABLE], generation, family);
  const folder = taken[FOLDER_VARIABLE];
  const guard = Number(taken[GUARD_VARIABLE]);
  const remove = (names: readonly string[]) =>
    names.forEach((name) => taken[name] !== undefined && env.delete(name));
  remove(isOurs ? OURS : OURS.filter((name) => !OF_RUN.includes(name)));
  return {
    generation: isOurs ? generation : undefined,
    channelPath: isOurs ? taken[CHANNEL_VARIABLE] : undefined,
    descriptors: isOurs ? taken[DESCRIPTORS_VARIABLE] : undefined,
    native: isOurs ? taken[NATIVE_VARIABLE] : undefined,
    supervisor: folder === undefined ? undefined : {
      folder,
      instances: Number(taken[INSTANCES_VARIABLE] ?? 1),
      guard: Number.isSafeInteger(guard) && guard > 0 ? guard : undefined,
      check: parseCheck(taken[CHECK_VARIABLE] ?? ""),
    },
    takeRest: () => remove(OF_RUN),
  };
}

/** A process whose parent is gone has another one now; it carries on alone. */
function isMeant(
  value: string | undefined,
  generation: number,
  { parent, isAlive }: ParentCheck,
): boolean {
  const [of, expected] = value?.split(":").map(Number) ?? [];
  // No parent for this generation: the old process has an earlier version of this library, or a
  // `command`.
  if (expected === undefined || of !== generation) return true;
  return expected === parent || isAlive(expected) === false;
}

/** The generation in a handshake, or `undefined` where the protocol has another version. */
export function parseGeneration(value: string): number | undefined {
  const match = /^(\d{1,9}):([1-9]\d{0,14})$/.exec(value);
  return match !== null && Number(match[1]) === PROTOCOL ? Number(match[2]) : undefined;
}

/** An address that the predecessor has, in the text for its successor. */
export interface OfferedAddress extends InheritedAddress {
  readonly kind: "server" | "datagrams";
  readonly key: string;
}

/**
 * What the predecessor has of a kind, from its text; nothing for anything else. See `native` in
 * src/reload/handover.ts.
 */
export function parseOffered(
  text: string | undefined,
  of: OfferedAddress["kind"],
): Map<string, InheritedAddress> {
  const found = new Map<string, InheritedAddress>();
  let list: unknown;
  try {
    list = JSON.parse(text ?? "[]");
  } catch {
    return found;
  }
  for (const one of Array.isArray(list) ? list : []) {
    const { kind, key, reported, place } = (one ?? {}) as Partial<OfferedAddress>;
    const isObject = typeof reported === "object" && reported !== null && !Array.isArray(reported);
    if (kind === of && typeof key === "string" && isObject) found.set(key, { reported, place });
  }
  return found;
}
