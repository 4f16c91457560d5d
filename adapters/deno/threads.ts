import type { Variables } from "../environment_handshake.ts";

/** The variables that the threads of a process have in common, as far as an election needs them. */
export interface SharedVariables extends Variables {
  set(name: string, value: string): void;
  toObject(): Record<string, string>;
}

/** With what the variables of an election begin. They are of no use to any other process. */
export const ELECTION = "RELOAD_SELF_THREAD";
/** The variable that names the thread which is elected, behind the pid of its process. */
const LEADER = ELECTION;

/**
 * `deno serve --parallel` runs the program in several threads that look alike to it: each is a main thread, with signals and all. Only
 * one of them may answer a reload; the environment is what they have in common. It has no compare-and-set, so the threads take
 * turns by Lamport's bakery algorithm (Communications of the ACM 17, 1974), which needs only reads and writes.
 *
 * @param id A name that no other thread of this process has.
 * @returns Is this thread the one?
 */
export function isElected(env: SharedVariables, pid: number, id: string): boolean {
  // A process that was started in the middle of an election has inherited variables of threads that it will never hear of.
  const CHOOSING = `${ELECTION}_CHOOSING_${pid}_`;
  const NUMBER = `${ELECTION}_NUMBER_${pid}_`;
  const all = (prefix: string) => Object.entries(env.toObject()).filter(([name]) => name.startsWith(prefix));
  env.set(CHOOSING + id, "1");
  const number = 1 + Math.max(0, ...all(NUMBER).map(([, value]) => Number(value)));
  env.set(NUMBER + id, String(number));
  env.delete(CHOOSING + id);
  for (const [name] of [...all(CHOOSING), ...all(NUMBER).map(([name]) => [name.replace(NUMBER, CHOOSING)] as const)]) {
    const other = (name as string).slice(CHOOSING.length);
    if (other === id) continue;
    while (env.get(CHOOSING + other) !== undefined);
    for (let theirs; (theirs = Number(env.get(NUMBER + other) ?? 0)) > 0;) {
      if (theirs > number || (theirs === number && other > id)) break;
    }
  }
  // A child process inherits the variable, but not the pid.
  const isFree = !env.get(LEADER)?.startsWith(`${pid}:`);
  if (isFree) env.set(LEADER, `${pid}:${id}`);
  env.delete(NUMBER + id);
  return isFree;
}
