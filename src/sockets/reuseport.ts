import { describeError } from "../core/describe_error.ts";
import { ReloadError } from "../core/error.ts";
import { nextCheck } from "../core/pause.ts";
import type { Libc } from "../core/socket_adapter.ts";
import { countListeners, type OwnListener, ownListeners } from "../linux/listeners.ts";
import { steer, unsteer } from "../linux/steering.ts";
import type { ProgramContext } from "../reload/context.ts";
import type { Handover, IncomingHandover, IncomingReload, OutgoingHandover, OutgoingReload } from "../reload/handover.ts";
import { explainMissing } from "./common.ts";
import { countNew, type Counts, countSince, type Group, place, positionsAfter } from "./reuseport_groups.ts";
import { leaveGroups } from "./reuseport_leave.ts";
import type { SharedPorts } from "./shared_ports.ts";
import { createWarnOnce } from "./common.ts";

/** What the handover needs. */
export interface ReuseportOptions {
  program: Pick<ProgramContext, "clock" | "warn">;
  /** The descriptors of this process, where they can be listed. */
  descriptors(): number[] | undefined;
  /** The C library, why it cannot be called, or `undefined` where there is nothing to steer. */
  libc(): Libc | string | undefined;
  /** Is this port bound by `token.bind()`? Then another handover takes care of it. */
  isBound(port: number): boolean;
  /** The other instances of this program, which listen on the same ports. */
  shared: SharedPorts | undefined;
}

/**
 * The handover of servers that cannot take over a socket: `Deno.serve` and `Bun.serve` with `reusePort`. The new process opens sockets of
 * its own on the same addresses. A program in the kernel steers each connection: to the old process until the new one is ready, to the new
 * one from then on.
 */
export function createReuseport(
  { program, descriptors, libc: load, isBound, shared }: ReuseportOptions,
): Handover {
  const { clock, warn } = program;
  const warnOnce = createWarnOnce(warn);
  /** Has this process native servers? Known from its first reload on. */
  let hasServers = false;
  /** The positions of our sockets in each group, in the order in which they were opened. */
  const positions = new Map<string, number[]>();

  function findGroups(libc: Libc, listeners: readonly OwnListener[]): Group[] {
    const counts = countListeners(libc);
    const groups: Group[] = [];
    for (const [key, own] of Map.groupBy(listeners, ({ key }) => key)) {
      const old = counts.get(key) ?? own.length;
      const name = own[0]?.name as string;
      if (old === own.length || shared !== undefined) {
        groups.push({ key, name, own: place(own, positions.get(key)), old });
        continue;
      }
      warnOnce(
        `${name} is shared with ${old - own.length} sockets of other processes: a reload may lose connections. ` +
          "Let one process listen there, with as many threads as it needs",
      );
    }
    return groups;
  }

  function outgoing({ link }: OutgoingReload): OutgoingHandover {
    let libc: Libc | undefined;
    let groups: readonly Group[] = [];
    let blocked: readonly OwnListener[] = [];
    /** The sockets when the new process was about to be started, and when it was ready: the next instance starts later. */
    let before: Counts = new Map();
    let after: Counts = new Map();
    let stopWatching = () => {};

    /** Lets all sockets have connections again. */
    function freeGroups(): void {
      for (const { own } of groups) {
        if (libc !== undefined && own[0] !== undefined) unsteer(libc, own[0].fd);
      }
    }

    /** Tells the new process when it listens on all addresses. */
    function watch(libc: Libc, begun: number): void {
      const counts = countListeners(libc);
      if (groups.every((group) => countSince(group, before, counts) > 0)) {
        return void link.send({ complete: true }).catch(() => {});
      }
      stopWatching = clock.timer(nextCheck(clock, begun), () => watch(libc, begun));
    }

    return {
      prepare() {
        const loaded = load();
        if (typeof loaded === "string") {
          hasServers = true;
          return warnOnce(loaded);
        }
        if (loaded === undefined) return;
        libc = loaded;
        const listeners = ownListeners(libc, descriptors()).filter(({ port }) => !isBound(port));
        const [shareable = [], rest = []] = [true, false].map((is) => listeners.filter(({ reusePort }) => reusePort === is));
        blocked = rest;
        hasServers = shareable.length > 0;
        groups = findGroups(libc, shareable);
        if (groups.length > 0) shared?.needOrder();
        for (const { own, name, old } of groups) {
          if (own[0] === undefined || steer(libc, own[0].fd, 0, old)) continue;
          warnOnce(`the kernel does not let ${name} be steered: a reload may lose connections`);
        }
      },
      beforeStart() {
        if (shared !== undefined && libc !== undefined && groups.length > 0) {
          before = countListeners(libc);
        }
      },
      offer() {
        if (libc === undefined || groups.length === 0) return;
        link.send({ addresses: groups.map(({ name }) => name) }).catch(() => {});
        watch(libc, clock.now());
      },
      agree() {
        if (shared !== undefined && libc !== undefined && groups.length > 0) {
          after = countListeners(libc);
        }
      },
      commit() {
        stopWatching();
        if (libc === undefined || groups.length === 0) return;
        const counts = countListeners(libc);
        if (shared === undefined) after = counts;
        for (const group of groups) {
          const all = countNew(group, counts);
          // An address without new sockets stays with this process to the end: the new one is ready without it.
          if (group.own[0] !== undefined && all > 0) steer(libc, group.own[0].fd, group.old, all);
        }
        const places = groups.map((
          group,
        ) => [group.key, positionsAfter(group, before, after, countNew(group, counts))]);
        link.send({ positions: places }).catch(() => {});
      },
      async retire(shutdown) {
        if (libc !== undefined) {
          await leaveGroups({ libc, clock, groups, shared, signal: shutdown, warn });
        } else await shared?.turn({});
        const isLast = groups.some(({ own }) => own[0]?.position === 0);
        if (shared !== undefined) link.send({ isLast }).catch(() => {});
      },
      rollback(reason) {
        stopWatching();
        // A new process that has failed its check lives on for a moment: no connection is to come to it.
        const isChecked = reason instanceof ReloadError && reason.code === "check";
        if (!isChecked || shared !== undefined) return freeGroups();
        for (const { own, old } of groups) {
          if (libc !== undefined && own[0] !== undefined) steer(libc, own[0].fd, 0, old);
        }
      },
      ended: freeGroups,
      explain(code) {
        if (code === "timeout" && libc !== undefined) {
          const counts = countListeners(libc);
          return explainMissing(
            code,
            groups.filter((group) => countSince(group, before, counts) === 0).map(({ name }) => name),
          );
        }
        if (code !== "exit" || blocked.length === 0) return undefined;
        const names = [...new Set(blocked.map(({ name }) => name))].join(", ");
        return `${names} cannot be listened on by two processes at a time: open a server of Deno.serve or Bun.serve by ` +
          "`token.adopt(Deno.serve)`, and serve a module of the command `deno serve` by `reload-self serve`; any other server listens " +
          "with `token.bind(server, ...)`";
      },
    };
  }

  function incoming({ link, offered }: IncomingReload): IncomingHandover {
    const complete = Promise.withResolvers<void>();
    let isSteered = false;
    /** Of several instances the one whose predecessor had the last old sockets. */
    let isLast = false;
    link.onData((data) => {
      for (const place of Array.isArray(data.positions) ? data.positions : []) {
        if (Array.isArray(place)) positions.set(String(place[0]), parseNumbers(place[1]));
      }
      if (Array.isArray(data.addresses)) isSteered = true;
      if (data.isLast === true) isLast = true;
      if (data.complete === true) complete.resolve();
    });
    return {
      complete: offered.then(() => isSteered ? complete.promise : undefined),
      over() {
        // While other instances have old sockets in the groups, the predecessor's steering stays.
        if (shared !== undefined && !isLast) return;
        try {
          tidy();
        } catch (error) {
          warn(`steering was not ended: ${describeError(error)}`);
        }
      },
    };
  }

  /** Ends the predecessor's steering: all sockets of this process get connections alike. */
  function tidy(): void {
    const libc = load();
    if (typeof libc !== "object") return;
    for (const { fd, reusePort } of ownListeners(libc, descriptors())) {
      if (reusePort) unsteer(libc, fd);
    }
  }

  /** Several instances are started one after the other: the sockets of each are the last ones when it is ready. */
  function findPositions(): void {
    const libc = load();
    if (typeof libc !== "object") return;
    const counts = countListeners(libc);
    for (const [key, own] of Map.groupBy(ownListeners(libc, descriptors()), ({ key }) => key)) {
      const first = (counts.get(key) ?? own.length) - own.length;
      positions.set(key, own.map((_, i) => first + i));
    }
  }

  return {
    name: "the steering of native servers",
    outgoing,
    incoming,
    isListening: () => hasServers,
    ...(shared !== undefined && { ready: findPositions }),
  };
}

function parseNumbers(value: unknown): number[] {
  return Array.isArray(value) && value.every((i) => Number.isSafeInteger(i)) ? value : [];
}
