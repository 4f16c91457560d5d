import type { Clock } from "../core/adapter.ts";
import { describeError } from "../core/error.ts";
import type { Link, Participant } from "../core/participant.ts";
import type { Libc } from "../core/socket_adapter.ts";
import { notListening } from "./missing.ts";
import { pause, untilNextLook } from "../core/pause.ts";
import { countListeners, hasWaiting, type OwnListener, ownListeners, steer, takeAway, unsteer } from "./reuseport.ts";

/** Milliseconds between two looks whether a server has accepted what waits for it. */
const LOOK = 1;
/** How long a socket that may have had a connection at the last moment is left with its server. */
const GRACE = 200;
/** How long to wait, at most, for a server to accept what is waiting, before its socket is taken away. */
const ACCEPT_TIMEOUT = 1_000;

/** All sockets of one address, and what we know about them. */
interface Group {
  readonly name: string;
  /** Ours. They are the first of the group, because whoever came before us has left it. */
  readonly own: readonly OwnListener[];
}

/** What steering needs. */
export interface SteeringOptions {
  clock: Clock;
  /** The descriptors of this process, where they can be told. */
  descriptors(): number[] | undefined;
  /** The C library, why it cannot be called, or nothing where there is nothing to steer. */
  libc(): Promise<Libc | string | undefined>;
  /** Is this port bound by `token.bind()`? Its socket is handed over. */
  isBound(port: number): boolean;
  /** Tells the log what a reload loses, and why. */
  warn(line: string): void;
}

/** The participant, and what the others need to know of it. */
export interface Steering {
  readonly participant: Participant;
  /** Has this process native servers, as far as can be known? Known from the first reload on. */
  readonly hasServers: boolean;
}

/**
 * The participant for servers that no socket can be given to: `Deno.serve` and `Bun.serve` with `reusePort`. The new process opens
 * sockets of its own on the same addresses; which of them gets a connection is decided by a program in the kernel: the old one's
 * until the new process is ready, the new one's from then on.
 */
export function createSteering({ clock, descriptors, libc: load, isBound, warn }: SteeringOptions): Steering {
  let libc: Libc | undefined;
  let groups = new Map<string, Group>();
  let blocked: OwnListener[] = [];
  let warned = false;
  let hasServers = false;
  let stopLooking = () => {};
  /** Ends after the reload that this process came from. The next one sets a program of its own. */
  let tidied: Promise<void> | undefined;
  /** The order of our sockets in each group, as the predecessor has left it. */
  const orders = new Map<string, number[]>();
  let toSuccessor: Link | undefined;

  function warnOnce(line: string): void {
    if (!warned) warn(line);
    warned = true;
  }

  /** The groups that this process listens in. */
  function look(libc: Libc): void {
    const listeners = ownListeners(libc, descriptors()).filter(({ port }) => !isBound(port));
    blocked = listeners.filter(({ reusePort }) => !reusePort);
    hasServers = blocked.length < listeners.length;
    groups = new Map();
    const counts = countListeners(libc);
    for (const listener of listeners) {
      if (!listener.reusePort || groups.has(listener.key)) continue;
      const own = inOrder(listener.key, listeners.filter(({ key, reusePort }) => key === listener.key && reusePort));
      const others = (counts.get(listener.key) ?? own.length) - own.length;
      if (others > 0) {
        warnOnce(
          `${listener.name} is shared with ${others} sockets of other processes: a reload may lose connections. ` +
            "Let one process listen there, with as many threads as it needs",
        );
      } else groups.set(listener.key, { name: listener.name, own });
    }
  }

  /** Our sockets as the kernel has them: in the order in which they were opened, but for what our predecessor's leaving changed. */
  function inOrder(key: string, own: OwnListener[]): OwnListener[] {
    const order = orders.get(key);
    if (order?.length !== own.length) return own;
    return order.flatMap((i) => own[i] ?? []);
  }

  /** How many sockets the new process has opened in each group. */
  function countNew(libc: Libc): { key: string; group: Group; count: number }[] {
    const counts = countListeners(libc);
    return [...groups].map(([key, group]) => ({ key, group, count: Math.max(0, (counts.get(key) ?? 0) - group.own.length) }));
  }

  /** Tells the new process when it listens everywhere. */
  function watch(libc: Libc, link: Link, begun: number): void {
    if (countNew(libc).every(({ count }) => count > 0)) return void link.send({ complete: true }).catch(() => {});
    stopLooking = clock.timer(untilNextLook(clock, begun), () => watch(libc, link, begun));
  }

  /**
   * Takes our sockets out of a group from the last to the first, so that none gets a connection that it would not serve: when one
   * leaves, the last of the group takes its place, and behind it there are none but the new process's.
   */
  async function leave(libc: Libc, key: string, { own, name }: Group, signal: AbortSignal): Promise<void> {
    let total = countListeners(libc).get(key) ?? 0;
    for (let i = own.length - 1; i >= 0; i--) {
      const { fd } = own[i] as OwnListener;
      await emptied(libc, fd, signal);
      // The new ones that are where they are before and after.
      const stable = total - 2 - i;
      if (stable > 0) steer(libc, fd, i + 1, stable);
      if (!takeAway(libc, fd)) {
        return warn(`the socket of ${name} could not be taken from the server: the new process shares it until this one ends`);
      }
      total--;
      const next = own[i - 1];
      if (next === undefined) return;
      steer(libc, next.fd, i, Math.max(1, total - i));
      // With none the kernel chose among all for a moment: what came to one of ours is served by it.
      if (stable <= 0 && !signal.aborted) await pause(clock, GRACE);
    }
  }

  /** Waits until the server has accepted what waits for it. */
  async function emptied(libc: Libc, fd: number, signal: AbortSignal): Promise<void> {
    const deadline = clock.now() + ACCEPT_TIMEOUT;
    while (hasWaiting(libc, fd) && clock.now() < deadline && !signal.aborted) await pause(clock, LOOK);
  }

  /** What the predecessor's program in the kernel names is no longer so: all sockets of this process have connections alike. */
  async function tidy(): Promise<void> {
    const loaded = await load();
    if (typeof loaded !== "object") return;
    for (const { fd, reusePort } of ownListeners(loaded, descriptors())) if (reusePort) unsteer(loaded, fd);
  }

  const participant: Participant = {
    name: "the steering of native servers",
    inherit(link, offered) {
      const complete = Promise.withResolvers<void>();
      let isSteered = false;
      link.onData((data) => {
        const { addresses, complete: isComplete, orders: left } = data as Record<string, unknown>;
        for (const [key, order] of Array.isArray(left) ? left : []) orders.set(String(key), parseOrder(order));
        if (Array.isArray(addresses)) isSteered = true;
        if (isComplete === true) complete.resolve();
      });
      return offered.then(() => isSteered ? complete.promise : undefined);
    },
    over() {
      tidied = tidy().catch((error) => warn(`steering was not ended: ${describeError(error)}`));
    },
    async prepare() {
      await tidied;
      const loaded = await load();
      if (typeof loaded === "string") {
        hasServers = true;
        return warnOnce(loaded);
      }
      if (loaded === undefined) return;
      libc = loaded;
      look(libc);
      for (const { own, name } of groups.values()) {
        const [first] = own;
        if (first !== undefined && !steer(libc, first.fd, 0, own.length)) {
          warnOnce(`the kernel does not let ${name} be steered: a reload may lose connections`);
        }
      }
    },
    async offer(link) {
      toSuccessor = link;
      if (libc === undefined || groups.size === 0) return;
      await link.send({ addresses: [...groups.values()].map(({ name }) => name) });
      watch(libc, link, clock.now());
    },
    async commit() {
      stopLooking();
      if (libc === undefined || groups.size === 0) return;
      // What the new process does not listen on stays ours to the end; it has said that it is ready like that.
      const news = countNew(libc);
      await toSuccessor?.send({ orders: news.map(({ key, group, count }) => [key, orderAfter(group.own.length, count)]) });
      for (const { group: { own }, count } of news) {
        if (own[0] !== undefined && count > 0) steer(libc, own[0].fd, own.length, count);
      }
    },
    rollback() {
      stopLooking();
      for (const { own } of groups.values()) {
        if (libc !== undefined && own[0] !== undefined) unsteer(libc, own[0].fd);
      }
      groups = new Map();
    },
    explain(code) {
      if (code === "timeout" && libc !== undefined) {
        return notListening(code, countNew(libc).filter(({ count }) => count === 0).map(({ group }) => group.name));
      }
      if (code !== "exit" || blocked.length === 0) return undefined;
      const names = [...new Set(blocked.map(({ name }) => name))].join(", ");
      return `${names} cannot be listened on by two processes at a time: give a server of Deno.serve or Bun.serve \`reusePort: true\` ` +
        "(Deno also needs --unstable-net; the command `deno serve` has no such option, call Deno.serve in the program); any other " +
        "server listens with `token.bind(server, ...)`";
    },
    async retire(signal) {
      if (libc === undefined) return;
      for (const [key, group] of groups) await leave(libc, key, group, signal);
    },
  };
  return {
    participant,
    get hasServers() {
      return hasServers;
    },
  };
}

/** The order of the new sockets of a group, when the old ones have left from the last to the first. */
export function orderAfter(old: number, fresh: number): number[] {
  const group = [...Array<number>(old).fill(-1), ...Array.from({ length: fresh }, (_, i) => i)];
  for (let i = old - 1; i >= 0; i--) {
    const last = group.pop() as number;
    if (i < group.length) group[i] = last;
  }
  return group;
}

function parseOrder(value: unknown): number[] {
  return Array.isArray(value) && value.every((i) => Number.isSafeInteger(i)) ? value : [];
}
