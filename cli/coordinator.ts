/** Reloading several instances: all of them, or none. */
import type { Channel } from "../src/core/adapter.ts";
import {
  type FromInstance,
  parseFromInstance,
  type Positions,
  type ToInstance,
} from "../src/protocol/instances.ts";
import { type Instance, kill } from "./instance.ts";

/**
 * How long to wait for the others before they are signalled, when one instance begins by itself.
 */
const SIGNAL_DELAY_MS = 300;

type Reloading = Extract<FromInstance, { type: "reloading" }>;

/** An instance in a round of reloads. */
interface Part {
  readonly instance: Instance;
  /** The process that reloads. */
  pid: number;
  /** Set once the process has begun to reload. */
  channel?: Channel;
  isOrdered: boolean;
  /** Whether it reports that its new process has passed. */
  passes: boolean;
  state:
    | "signalled"
    | "waiting"
    | "starting"
    | "ready"
    | "committed"
    | "passed"
    | "failed"
    | "done";
}

// `onClose` follows where it cannot be sent.
const send = (channel: Channel | undefined, message: ToInstance) =>
  void channel?.send(message).catch(() => {});

/** Coordinates the reloads of all instances. */
export class Coordinator {
  readonly #instances: readonly Instance[];
  /** The round that is under way. */
  #round: Part[] = [];
  #failure: string | undefined;
  /** Those that have begun to reload before the round is over. They wait for the next one. */
  readonly #early = new Map<Channel, () => void>();
  /**
   * The positions of the sockets that have to leave; `undefined` until a process has reported them.
   */
  readonly #leaving = new Map<Channel, Positions | undefined>();
  /** The process that was told to let a socket leave, and has not reported that yet. */
  #turn: Channel | undefined;

  /** No reload is under way. */
  constructor(instances: readonly Instance[]) {
    this.#instances = instances;
  }

  /** Reloads all instances. */
  begin(): void {
    if (this.#round.length === 0) this.#open();
    // A process that reloads already remembers the signal; it is served when this round is over.
    for (const { pid } of this.#round) kill(pid, "SIGHUP");
  }

  /** Must be called when a process of an instance has connected. */
  connect(instance: Instance, channel: Channel): void {
    channel.onMessage((raw) => {
      const message = parseFromInstance(raw);
      if (message !== undefined) this.#receive(instance, channel, message);
    });
    channel.onClose(() => {
      this.#early.delete(channel);
      this.#fail(channel, "it has ended");
      this.#advance();
      this.#leave(channel, {});
    });
  }

  /** Must be called when the process in charge of an instance may have changed. */
  check(): void {
    const round = this.#round;
    if (round.length === 0) return;
    for (const part of round.filter(({ state }) => state === "signalled")) {
      const pid = part.instance.inCharge()?.pid;
      if (pid === part.pid) continue;
      // It has ended: if it is started again, it is of the new version.
      if (pid === undefined) round.splice(round.indexOf(part), 1);
      else kill(part.pid = pid, "SIGHUP"); // A reload before this round has replaced it.
    }
    this.#advance();
  }

  #receive(instance: Instance, channel: Channel, message: FromInstance): void {
    switch (message.type) {
      case "up":
        return instance.setUp();
      case "reloading":
        return this.#join(instance, channel, message);
      case "ready":
        return this.#move(channel, "starting", "ready");
      case "passed":
        return this.#move(channel, "committed", "passed");
      case "failed":
        this.#fail(channel, message.message);
        return this.#advance();
      case "leaving":
        return this.#leave(channel, message.positions);
    }
  }

  #move(channel: Channel, from: Part["state"], to: Part["state"]): void {
    const part = this.#partOf(channel);
    if (part?.state === from) part.state = to;
    this.#advance();
  }

  #partOf(channel: Channel): Part | undefined {
    return this.#round.find((part) => part.channel === channel);
  }

  #open(): void {
    this.#failure = undefined;
    this.#round = this.#instances.flatMap((instance) => {
      const pid = instance.inCharge()?.pid;
      return pid === undefined
        ? []
        : [{ instance, pid, isOrdered: false, passes: false, state: "signalled" }];
    });
  }

  /** A process has begun to reload. One that does so by itself takes the others with it. */
  #join(instance: Instance, channel: Channel, message: Reloading): void {
    if (this.#round.length === 0) {
      this.#open();
      const round = this.#round;
      setTimeout(() => {
        for (const { pid, state } of round === this.#round ? round : []) {
          if (state === "signalled") kill(pid, "SIGHUP");
        }
      }, SIGNAL_DELAY_MS).unref();
    }
    const part = this.#round.find((part) =>
      part.instance === instance && part.state === "signalled"
    );
    if (part === undefined) {
      return void this.#early.set(channel, () => this.#join(instance, channel, message));
    }
    const { ordered, passes } = message;
    Object.assign(part, { channel, isOrdered: ordered, passes, state: "waiting" });
    this.#advance();
  }

  #fail(channel: Channel, message: string): void {
    const part = this.#partOf(channel);
    if (part !== undefined) this.#failPart(part, message);
  }

  #failPart(part: Part, message: string): void {
    if (part.state === "done" || part.state === "failed") return;
    part.state = "failed";
    this.#failure ??= message;
  }

  /** Does what the states of all parts allow. */
  #advance(): void {
    const round = this.#round;
    if (this.#failure !== undefined) {
      const message = `the new process of another instance failed: ${this.#failure}`;
      for (const part of round) {
        if (!["waiting", "ready", "passed"].includes(part.state)) continue;
        part.state = "done";
        send(part.channel, { type: "refuse", message });
      }
    } else if (round.every(({ state }) => state === "ready")) {
      const passes = round.every((part) => part.passes);
      for (const part of round) {
        part.state = "committed";
        send(part.channel, { type: "go", passes });
        if (!passes) this.#finish(part);
      }
    } else if (round.every(({ state }) => state === "passed")) {
      for (const part of round) {
        send(part.channel, { type: "keep" });
        this.#finish(part);
      }
    } else if (round.every(({ state }) => state !== "signalled")) this.#startNext();
    if (round.every(({ state }) => state === "done" || state === "failed")) this.#end();
  }

  #end(): void {
    this.#round = [];
    const waiting = [...this.#early.values()];
    this.#early.clear();
    for (const join of waiting) join();
  }

  /** The old process of an instance retires, and its sockets leave. */
  #finish(part: Part): void {
    part.state = "done";
    if (part.channel !== undefined) this.#leaving.set(part.channel, undefined);
  }

  /** Lets new processes be started: all at once, or each when the one before it is ready. */
  #startNext(): void {
    const isOrdered = this.#round.some((part) => part.isOrdered);
    if (isOrdered && this.#round.some(({ state }) => state === "starting")) return;
    for (const part of this.#round.filter(({ state }) => state === "waiting")) {
      part.state = "starting";
      send(part.channel, { type: "start" });
      if (isOrdered) return;
    }
  }

  #leave(channel: Channel, positions: Positions): void {
    if (this.#turn === channel) this.#turn = undefined;
    if (Object.keys(positions).length > 0) this.#leaving.set(channel, positions);
    else this.#leaving.delete(channel);
    this.#leaveNext();
  }

  /** Lets the old sockets leave one after the other: on each address the last of all first. */
  #leaveNext(): void {
    if (this.#turn !== undefined || [...this.#leaving.values()].includes(undefined)) return;
    const candidates = [...this.#leaving].flatMap(([channel, positions = {}]) =>
      Object.entries(positions).map(([address, list]) => ({
        channel,
        address,
        last: Math.max(...list),
      }))
    );
    const [next] = candidates.sort((a, b) => a.address.localeCompare(b.address) || b.last - a.last);
    if (next === undefined) return;
    this.#turn = next.channel;
    send(next.channel, { type: "leave", address: next.address });
  }
}
