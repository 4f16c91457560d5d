import { ReloadError, type ReloadErrorCode } from "../../core/error.ts";
import { nextCheck } from "../../core/pause.ts";
import type { Libc } from "../../core/socket_adapter.ts";
import { countListeners, type OwnListener, ownListeners } from "../../linux/listeners.ts";
import { steer, unsteer } from "../../linux/steering.ts";
import type { SteeringFromPredecessor } from "../../protocol/sockets.ts";
import type { OutgoingHandover, OutgoingReload } from "../../reload/handover.ts";
import { explainMissing, type Line, openLine } from "../common.ts";
import { countNew, type Counts, countSince, type Group, positionsAfter } from "./groups.ts";
import { leaveGroups } from "./leave.ts";
import type { Reuseport, ReuseportOptions } from "./reuseport.ts";

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
      const why = `the kernel does not let ${name} be steered`;
      this.#own.warnOnce(`${why}: a reload may lose connections`);
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

  async retire(signal: AbortSignal): Promise<void> {
    const { shared, program: { clock, warn } } = this.#options;
    const groups = this.#groups;
    const libc = this.#libc;
    if (libc !== undefined) await leaveGroups({ libc, clock, groups, shared, signal, warn });
    else await shared?.turn({});
    const isLast = groups.some(({ own }) => own[0]?.position === 0);
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
}
