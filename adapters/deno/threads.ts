import type { ThreadGroup } from "../../src/core/adapter.ts";
import type { CancelReason } from "../../src/core/token.ts";
import { ELECTION, type Variables } from "../../src/protocol/handshake.ts";

/** The environment, which the threads of a process share. */
export interface SharedVariables extends Variables {
  set(name: string, value: string): void;
  toObject(): Record<string, string>;
}

/** The variable that names the elected thread, after the pid of its process. */
const LEADER = ELECTION;
/** The channel on which the elected thread tells the others of the end. */
const CHANNEL = "@js0/reload-self threads";
/** Milliseconds between two looks at the threads that still work. */
const CHECK_MS = 20;

const offerName = (pid: number) => `${ELECTION}_NATIVE_${pid}`;
const memberPrefix = (pid: number) => `${ELECTION}_MEMBER_${pid}_`;

/**
 * `deno serve --parallel` runs the program in several threads, each of which looks like the main
 * thread and gets all signals. One of them must be elected to reload. All that they share without a
 * permission is the environment, which has no compare-and-set: they take turns by Lamport's bakery
 * algorithm (Communications of the ACM 17, 1974), which needs only reads and writes.
 *
 * @param id A name that no other thread of this process has.
 * @param onElected Called in the thread that is elected, before another one has its turn.
 * @returns Whether this thread is elected.
 */
export function isElected(
  env: SharedVariables,
  pid: number,
  id: string,
  onElected?: () => void,
): boolean {
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
  if (isFree) {
    env.set(LEADER, `${pid}:${id}`);
    onElected?.();
  }
  env.delete(NUMBER + id);
  return isFree;
}

/** Whether Deno itself asks for the server of a thread. Deno 2.9 marks it with a symbol. */
export function isOfThread(options: object): boolean {
  return Object.getOwnPropertySymbols(options).some((symbol) =>
    symbol.description === "kLoadBalanced" && (options as Record<symbol, unknown>)[symbol] === true
  );
}

/** Tells the threads which sockets the process gets. Each opens a server for them. */
export function shareOffer(env: SharedVariables, pid: number, native: string | undefined): void {
  if (native !== undefined) env.set(offerName(pid), native);
}

/** What the elected thread has shared. */
export function sharedOffer(env: SharedVariables, pid: number): string | undefined {
  return env.get(offerName(pid));
}

/** The other threads, as the elected one sees them. */
export function leadThreads(env: SharedVariables, pid: number): ThreadGroup {
  const isAlone = () =>
    !Object.keys(env.toObject()).some((name) => name.startsWith(memberPrefix(pid)));
  return {
    async end(reason) {
      if (isAlone()) return;
      // What the application has given as a reason may be anything, and stays in its thread.
      const { reason: _, ...sent } = { reason: undefined, ...reason };
      const channel = new BroadcastChannel(CHANNEL);
      while (!isAlone()) {
        channel.postMessage(sent); // Again and again: a thread may have come later.
        await new Promise((resolve) => setTimeout(resolve, CHECK_MS));
      }
      channel.close();
    },
  };
}

/** This thread, of which the elected one tells the end. */
export function followThread(env: SharedVariables, pid: number, id: string): ThreadGroup {
  return {
    follow(finish) {
      const member = memberPrefix(pid) + id;
      const channel = new BroadcastChannel(CHANNEL);
      env.set(member, "1");
      channel.onmessage = async ({ data }: { data: CancelReason }) => {
        channel.onmessage = null;
        await finish(data);
        channel.close();
        env.delete(member);
      };
    },
  };
}
