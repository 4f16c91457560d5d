import { ELECTION, type Variables } from "../../src/protocol/handshake.ts";

/** The environment, which the threads of a process share. */
export interface SharedVariables extends Variables {
  set(name: string, value: string): void;
  toObject(): Record<string, string>;
}

/** The variable that names the elected thread, after the pid of its process. */
const LEADER = ELECTION;

/**
 * `deno serve --parallel` runs the program in several threads, each of which looks like the main
 * thread and gets all signals. One of them must be elected to reload. All that they share without a
 * permission is the environment, which has no compare-and-set: they take turns by Lamport's bakery
 * algorithm (Communications of the ACM 17, 1974), which needs only reads and writes.
 *
 * @param id A name that no other thread of this process has.
 * @returns Whether this thread is elected.
 */
export function isElected(env: SharedVariables, pid: number, id: string): boolean {
  // With the pid: a process that was started during an election has inherited variables of its
  // parent's threads.
  const CHOOSING = `${ELECTION}_CHOOSING_${pid}_`;
  const NUMBER = `${ELECTION}_NUMBER_${pid}_`;
  const all = (prefix: string) =>
    Object.entries(env.toObject()).filter(([name]) => name.startsWith(prefix));
  env.set(CHOOSING + id, "1");
  const number = 1 + Math.max(0, ...all(NUMBER).map(([, value]) => Number(value)));
  env.set(NUMBER + id, String(number));
  env.delete(CHOOSING + id);
  for (
    const [name] of [
      ...all(CHOOSING),
      ...all(NUMBER).map(([name]) => [name.replace(NUMBER, CHOOSING)] as const),
    ]
  ) {
    const other = (name as string).slice(CHOOSING.length);
    if (other === id) continue;
    while (env.get(CHOOSING + other) !== undefined);
    for (let theirs; (theirs = Number(env.get(NUMBER + other) ?? 0)) > 0;) {
      if (theirs > number || (theirs === number && other > id)) break;
    }
  }
  // A child process inherits the variable, with another pid in it.
  const isFree = !env.get(LEADER)?.startsWith(`${pid}:`);
  if (isFree) env.set(LEADER, `${pid}:${id}`);
  env.delete(NUMBER + id);
  return isFree;
}
