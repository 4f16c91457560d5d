import { ReloadError, type ReloadErrorCode } from "../../core/error.ts";
import { nextCheck, pause } from "../../core/pause.ts";
import type { Libc } from "../../core/socket_adapter.ts";
import {
  countListeners,
  hasWaiting,
  type OwnListener,
  ownListeners,
  takeAway,
} from "../../linux/listeners.ts";
import { steer, unsteer } from "../../linux/steering.ts";
import type { SteeringFromPredecessor } from "../../protocol/sockets.ts";
import type { OutgoingHandover, OutgoingReload } from "../../reload/handover.ts";
import { explainMissing, type Line, openLine } from "../common.ts";
import {
  countNew,
  type Counts,
  countSince,
  type Group,
  type Placed,
  positionsAfter,
  steeredTo,
} from "./groups.ts";
import type { Reuseport, ReuseportOptions } from "./reuseport.ts";

/** Milliseconds between two checks whether a server has accepted what waits for it. */
const ACCEPT_CHECK_MS = 1;
/** How long to wait for that before the socket is taken from the server. */
const ACCEPT_TIMEOUT_MS = 1_000;
/** How long a socket that may have got a connection at the last moment is left with its server. */
const LAST_CONNECTION_MS = 200;

/** Servers that cannot take over a socket, in the old process. */
export class OutgoingReuseport implements OutgoingHandover {
  readonly #own: Reuseport;
  readonly #options: ReuseportOptions;
  readonly #line: Line<never, SteeringFromPredecessor>;
  #libc: Libc | undefined;
  #groups: readonly Group[] = [];
  /** The sockets that no other process can open. */
  #blocked: readonly OwnListener[] = [];
  /** How many sockets there were when the new process was about to be started. */
  #before: Counts = new Map();
  /** How many there were when it was ready: the next instance starts later. */
  #after: Counts = new Map();
  #stopWatching = (): void => {};

  constructor(own: Reuseport, { link }: OutgoingReload) {
    this.#own = own;
    this.#options = own.options;
    this.#line = openLine(link);
  }

  prepare(): void {
    const { isBound, shared } = this.#options;
    const libc = this.#options.libc();
    if (typeof libc === "string") {
      this.#own.hasServers = true;
      return this.#own.warnOnce(libc);
    }
    if (libc === undefined) return;
    this.#libc = libc;
    const all = ownListeners(libc, this.#options.descriptors());
    const listeners = all.filter(({ port }) => !isBound(port));
    const shareable = listeners.filter(({ reusePort }) => reusePort);
    this.#blocked = listeners.filter(({ reusePort }) => !reusePort);
    this.#own.hasServers = shareable.length > 0;
    this.#groups = this.#own.findGroups(libc, shareable);
    if (this.#groups.length > 0) shared?.needOrder();
    for (const { own, name, old } of this.#groups) {
      if (own[0] === undefined || steer(libc, own[0].fd, 0, old)) continue;
      this.#own.warnOnce(
        `the kernel does not let ${name} be steered: a reload may lose connections`,
      );
    }
  }

  beforeStart(): void {
    if (this.#options.shared !== undefined) this.#before = this.#count();
  }

  offer(): void {
    if (this.#groups.length === 0) return;
    this.#line.post({ addresses: this.#groups.map(({ name }) => name) });
    this.#watch(this.#options.program.clock.now());
  }

  agree(): void {
    if (this.#options.shared !== undefined) this.#after = this.#count();
  }

  commit(): void {
    this.#stopWatching();
    if (this.#libc === undefined || this.#groups.length === 0) return;
    const counts = this.#count();
    if (this.#options.shared === undefined) this.#after = counts;
    for (const group of this.#groups) {
      const all = countNew(group, counts);
      // An address without new sockets stays with this process to the end: the new one is ready
      // without it.
      if (group.own[0] !== undefined && all > 0) steer(this.#libc, group.own[0].fd, group.old, all);
    }
    const positions = this.#groups.map((group) => {
      const all = countNew(group, counts);
      return [group.key, positionsAfter(group, this.#before, this.#after, all)] as const;
    });
    this.#line.post({ positions });
  }

  async retire(hurry: AbortSignal): Promise<void> {
    const { shared } = this.#options;
    if (this.#libc !== undefined) await this.#leaveAll(this.#libc, hurry);
    else await shared?.turn({});
    const isLast = this.#groups.some(({ own }) => own[0]?.position === 0);
    if (shared !== undefined) this.#line.post({ isLast });
  }

  rollback(reason: Error): void {
    this.#stopWatching();
    // A new process that has failed its check lives on for a moment: no connection may come to it.
    const isChecked = reason instanceof ReloadError && reason.code === "check";
    if (!isChecked || this.#options.shared !== undefined) return this.ended();
    for (const { own, old } of this.#groups) {
      if (this.#libc !== undefined && own[0] !== undefined) steer(this.#libc, own[0].fd, 0, old);
    }
  }

  /** Lets all sockets have connections again. */
  ended(): void {
    for (const { own } of this.#groups) {
      if (this.#libc !== undefined && own[0] !== undefined) unsteer(this.#libc, own[0].fd);
    }
  }

  explain(code: ReloadErrorCode): string | undefined {
    if (code === "timeout" && this.#libc !== undefined) {
      return explainMissing(code, this.#missing().map(({ name }) => name));
    }
    if (code !== "exit" || this.#blocked.length === 0) return undefined;
    const names = [...new Set(this.#blocked.map(({ name }) => name))].join(", ");
    return `${names} cannot be listened on by two processes at a time: open a server of ` +
      "Deno.serve or Bun.serve by `token.adopt(Deno.serve)`, and serve a module of the command " +
      "`deno serve` by `reload-self serve`; any other server listens with " +
      "`token.bind(server, ...)`";
  }

  /** How many sockets listen on each address; none where there is nothing to steer. */
  #count(): Counts {
    const isSteering = this.#libc !== undefined && this.#groups.length > 0;
    return isSteering ? countListeners(this.#libc as Libc) : new Map();
  }

  /** The addresses on which the new process does not listen. */
  #missing(): Group[] {
    const counts = this.#count();
    return this.#groups.filter((group) => countSince(group, this.#before, counts) === 0);
  }

  /** Tells the new process when it listens on all addresses. */
  #watch(begun: number): void {
    const { clock } = this.#options.program;
    if (this.#missing().length === 0) return this.#line.post({ complete: true });
    this.#stopWatching = clock.timer(nextCheck(clock, begun), () => this.#watch(begun));
  }

  /**
   * Takes the sockets of this process out of all groups, each group from the last to the first: the
   * last socket of the group takes the place of one that leaves, and behind the old sockets there
   * are only those of new processes.
   */
  async #leaveAll(libc: Libc, hurry: AbortSignal): Promise<void> {
    const { shared } = this.#options;
    const left = new Map(this.#groups.map(({ key, own }) => [key, [...own]]));
    for (;;) {
      const rest = [...left].filter(([, own]) => own.length > 0);
      const positions = rest.map(([key, own]) => [key, own.map(({ position }) => position)]);
      const key = shared === undefined
        ? rest[0]?.[0]
        : await shared.turn(Object.fromEntries(positions));
      const group = this.#groups.find((group) => group.key === key);
      const listener = left.get(key ?? "")?.pop();
      if (group === undefined || listener === undefined) return;
      if (!await this.#leave(libc, hurry, group, listener)) left.set(group.key, []);
    }
  }

  /** Takes the last of the old sockets out of its group. Returns whether that was possible. */
  async #leave(
    libc: Libc,
    hurry: AbortSignal,
    { own, old }: Group,
    { fd, key, name, position }: Placed,
  ): Promise<boolean> {
    const { clock, warn } = this.#options.program;
    const [first, count] = steeredTo(position, old, countListeners(libc).get(key) ?? 0);
    steer(libc, fd, first, Math.max(1, count));
    const deadline = clock.now() + ACCEPT_TIMEOUT_MS;
    while (hasWaiting(libc, fd) && clock.now() < deadline && !hurry.aborted) {
      await pause(clock, ACCEPT_CHECK_MS);
    }
    // The new sockets that keep their positions.
    const stable = count - 1;
    if (stable > 0) steer(libc, fd, first, stable);
    if (!takeAway(libc, fd)) {
      warn(
        `the socket of ${name} could not be taken from the server: the new process shares it until this one ends`,
      );
      return false;
    }
    // Without a stable one the kernel chooses among all sockets for a moment. A connection that
    // comes to one of ours is served by us.
    if (stable <= 0 && position > 0 && !hurry.aborted) {
      const rest = own.find((other) => other.position === position - 1);
      if (rest !== undefined) steer(libc, rest.fd, position, 1);
      await pause(clock, LAST_CONNECTION_MS);
    }
    return true;
  }
}
