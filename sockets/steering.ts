import type { Clock } from "../core/adapter.ts";
import { describeError } from "../core/error.ts";
import type { Link, Participant } from "../core/participant.ts";
import type { SharedPorts } from "../core/shared_ports.ts";
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

/** A socket of ours, and where it is among all that share its address. */
interface Placed extends OwnListener {
  readonly position: number;
}

/** All sockets of one address, and what we know about them. */
interface Group {
  readonly name: string;
  /** Ours, by their places in the group. */
  readonly own: readonly Placed[];
  /** The sockets of this generation, which are the first of the group: ours, and those of the other instances. */
  readonly old: number;
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
  /** The other instances of this program, which listen on the same ports. */
  shared: SharedPorts | undefined;
  /** Tells the log what a reload loses, and why. */
  warn(line: string): void;
}

/** The participant, and what the others need to know of it. */
export interface Steering {
  readonly participant: Participant;
  /** Its last part before the new process is started, for instances that share ports. */
  readonly counting: Participant;
  /** Has this process native servers, as far as can be known? Known from the first reload on. */
  readonly hasServers: boolean;
}

/**
 * The participant for servers that no socket can be given to: `Deno.serve` and `Bun.serve` with `reusePort`. The new process opens
 * sockets of its own on the same addresses; which of them gets a connection is decided by a program in the kernel: the old one's
 * until the new process is ready, the new one's from then on.
 */
export function createSteering({ clock, descriptors, libc: load, isBound, shared, warn }: SteeringOptions): Steering {
  let libc: Libc | undefined;
  let groups = new Map<string, Group>();
  let blocked: OwnListener[] = [];
  let warned = false;
  let hasServers = false;
  let stopLooking = () => {};
  /** Was the last old socket that of our predecessor? */
  let mayTidy = false;
  /** Ends after the reload that this process came from. The next one sets a program of its own. */
  let tidied: Promise<void> | undefined;
  /** Where our sockets are in each group, in the order in which they were opened. Where nothing is known, they are the first. */
  const positions = new Map<string, number[]>();
  /** How many sockets there were in each group when the new process was about to be started. */
  let before = new Map<string, number>();
  /** How many there were when it was ready: the next instance starts later. */
  let after = new Map<string, number>();
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
      const own = place(listener.key, listeners.filter(({ key, reusePort }) => key === listener.key && reusePort));
      const all = counts.get(listener.key) ?? own.length;
      if (all > own.length && shared === undefined) {
        warnOnce(
          `${listener.name} is shared with ${all - own.length} sockets of other processes: a reload may lose connections. ` +
            "Let one process listen there, with as many threads as it needs",
        );
      } else groups.set(listener.key, { name: listener.name, own, old: all });
    }
    if (groups.size > 0) shared?.needOrder();
  }

  /** Our sockets as the kernel has them: in the order in which they were opened, but for what the leaving of others has changed. */
  function place(key: string, own: OwnListener[]): Placed[] {
    const known = positions.get(key);
    const isKnown = known?.length === own.length;
    return own.map((listener, i) => ({ ...listener, position: (isKnown ? known[i] : undefined) ?? i }))
      .sort((a, b) => a.position - b.position);
  }

  /** How many sockets our new process has opened in each group, and how many all new processes have. */
  function countNew(counts: ReadonlyMap<string, number>): { key: string; group: Group; count: number; all: number }[] {
    return [...groups].map(([key, group]) => {
      const now = counts.get(key) ?? 0;
      const count = Math.max(0, now - (before.get(key) ?? group.old));
      return { key, group, count, all: Math.max(0, now - group.old) };
    });
  }

  /** Tells the new process when it listens everywhere. */
  function watch(libc: Libc, link: Link, begun: number): void {
    if (countNew(countListeners(libc)).every(({ count }) => count > 0)) {
      return void link.send({ complete: true }).catch(() => {});
    }
    stopLooking = clock.timer(untilNextLook(clock, begun), () => watch(libc, link, begun));
  }

  /**
   * Takes our sockets out of all groups, each from the last to the first, so that none gets a connection that it would not serve: when
   * one leaves, the last of the group takes its place, and behind it there are none but those of new processes.
   */
  async function leave(libc: Libc, signal: AbortSignal): Promise<void> {
    const left = new Map([...groups].map(([key, { own }]) => [key, [...own]]));
    const places = () =>
      Object.fromEntries(
        [...left].filter(([, own]) => own.length > 0).map(([key, own]) => [key, own.map(({ position }) => position)]),
      );
    for (;;) {
      const mine = places();
      const key = shared === undefined ? Object.keys(mine)[0] : await shared.turn(mine);
      if (key === undefined) return;
      const listener = left.get(key)?.pop();
      if (listener === undefined) return;
      if (!await leaveOne(libc, listener, signal)) left.set(key, []);
    }
  }

  /** The last socket of the old ones leaves its group. */
  async function leaveOne(libc: Libc, { fd, key, name, position }: Placed, signal: AbortSignal): Promise<boolean> {
    const total = countListeners(libc).get(key) ?? 0;
    steer(libc, fd, position + 1, Math.max(1, total - 1 - position));
    await emptied(libc, fd, signal);
    // The new ones that are where they are before and after.
    const stable = total - 2 - position;
    if (stable > 0) steer(libc, fd, position + 1, stable);
    if (!takeAway(libc, fd)) {
      warn(`the socket of ${name} could not be taken from the server: the new process shares it until this one ends`);
      return false;
    }
    // With none the kernel chooses among all for a moment: what comes to one of ours is served by it.
    if (stable <= 0 && position > 0 && !signal.aborted) {
      const rest = groups.get(key)?.own.find((other) => other.position === position - 1);
      if (rest !== undefined) steer(libc, rest.fd, position, 1);
      await pause(clock, GRACE);
    }
    return true;
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

  /** Where the sockets of our new process are when all old ones have left. */
  function placesAfter(key: string, { old }: Group, all: number): number[] {
    const first = (before.get(key) ?? old) - old;
    const count = (after.get(key) ?? old) - old - first;
    const order = orderAfter(old, all);
    return Array.from({ length: Math.max(0, count) }, (_, i) => order.indexOf(first + i));
  }

  /** Of several instances, started one after the other, each is the last when it listens. */
  async function placeFirst(): Promise<void> {
    const loaded = await load();
    if (typeof loaded !== "object") return;
    const counts = countListeners(loaded);
    for (const [key, own] of Map.groupBy(ownListeners(loaded, descriptors()), ({ key }) => key)) {
      const first = (counts.get(key) ?? own.length) - own.length;
      positions.set(key, own.map((_, i) => first + i));
    }
  }

  const participant: Participant = {
    name: "the steering of native servers",
    inherit(link, offered) {
      const complete = Promise.withResolvers<void>();
      let isSteered = false;
      link.onData((data) => {
        const { addresses, complete: isComplete, positions: places, isLast } = data as Record<string, unknown>;
        for (const [key, numbers] of Array.isArray(places) ? places : []) positions.set(String(key), parseNumbers(numbers));
        if (Array.isArray(addresses)) isSteered = true;
        if (isLast === true) mayTidy = true;
        if (isComplete === true) complete.resolve();
      });
      return offered.then(() => isSteered ? complete.promise : undefined);
    },
    ...(shared !== undefined && { ready: () => void placeFirst().catch(() => {}) }),
    over() {
      // Of several instances only one: there are old sockets in the group until the last of all has left.
      if (shared !== undefined && !mayTidy) return;
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
      before = new Map();
      for (const { own, name, old } of groups.values()) {
        const [first] = own;
        if (first !== undefined && !steer(libc, first.fd, 0, old)) {
          warnOnce(`the kernel does not let ${name} be steered: a reload may lose connections`);
        }
      }
    },
    offer(link) {
      toSuccessor = link;
      if (libc === undefined || groups.size === 0) return;
      link.send({ addresses: [...groups.values()].map(({ name }) => name) }).catch(() => {});
      watch(libc, link, clock.now());
    },
    agree() {
      if (shared !== undefined && libc !== undefined && groups.size > 0) after = countListeners(libc);
    },
    commit() {
      stopLooking();
      if (libc === undefined || groups.size === 0) return;
      const counts = countListeners(libc);
      if (shared === undefined) after = counts;
      // What the new process does not listen on stays ours to the end; it has said that it is ready like that.
      const news = countNew(counts);
      for (const { group: { own, old }, all } of news) {
        if (own[0] !== undefined && all > 0) steer(libc, own[0].fd, old, all);
      }
      toSuccessor?.send({
        positions: news.map(({ key, group, all }) => [key, placesAfter(key, group, all)]),
      }).catch(() => {});
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
        return notListening(
          code,
          countNew(countListeners(libc)).filter(({ count }) => count === 0).map(({ group }) => group.name),
        );
      }
      if (code !== "exit" || blocked.length === 0) return undefined;
      const names = [...new Set(blocked.map(({ name }) => name))].join(", ");
      return `${names} cannot be listened on by two processes at a time: give a server of Deno.serve or Bun.serve \`reusePort: true\` ` +
        "(Deno also needs --unstable-net; the command `deno serve` has no such option, call Deno.serve in the program); any other " +
        "server listens with `token.bind(server, ...)`";
    },
    async retire(signal) {
      if (libc !== undefined) await leave(libc, signal);
      else await shared?.turn({});
      const isLast = [...groups.values()].some(({ own }) => own[0]?.position === 0);
      if (shared !== undefined) toSuccessor?.send({ isLast });
    },
  };
  const counting: Participant = {
    name: "the count of sockets",
    prepare() {
      if (libc !== undefined && groups.size > 0) before = countListeners(libc);
    },
  };
  return {
    participant,
    counting,
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

function parseNumbers(value: unknown): number[] {
  return Array.isArray(value) && value.every((i) => Number.isSafeInteger(i)) ? value : [];
}
