/** Reloading several instances: all of them, or none. */
import type { Channel } from "../src/core/adapter.ts";
import { parseFromInstance, type Positions, type ToInstance } from "../src/protocol/instances.ts";
import { type Instance, kill } from "./instance.ts";

/** How long to wait for the others before they are signalled, when one instance begins by itself. */
const SIGNAL_DELAY_MS = 300;

/** An instance in a round of reloads. */
interface Part {
  readonly instance: Instance;
  /** The process that reloads. */
  readonly pid: number;
  /** Set once the process has begun to reload. */
  channel?: Channel;
  isOrdered: boolean;
  state: "signalled" | "waiting" | "starting" | "ready" | "failed" | "done";
}

/** The reloads of all instances. */
export interface Coordinator {
  /** Reloads all instances. */
  begin(): void;
  /** Must be called when a process of an instance has connected. */
  connect(instance: Instance, channel: Channel): void;
  /** Must be called when the process in charge of an instance may have changed. */
  check(): void;
}

/** Coordinates the reloads of all instances. */
export function createCoordinator(instances: readonly Instance[]): Coordinator {
  /** The round that is under way. */
  let round: Part[] = [];
  let failure: string | undefined;
  /** The positions of the sockets that have to leave; `undefined` until a process has reported them. */
  const leaving = new Map<Channel, Positions | undefined>();
  /** The process that was told to let a socket leave, and has not reported that yet. */
  let turn: Channel | undefined;

  function open(): void {
    failure = undefined;
    round = instances.flatMap((instance) => {
      const pid = instance.inCharge()?.pid;
      return pid === undefined ? [] : [{ instance, pid, isOrdered: false, state: "signalled" }];
    });
  }

  const send = (channel: Channel | undefined, message: ToInstance) => void channel?.send(message).catch(() => {}); // `onClose` follows.

  function fail(part: Part, message: string): void {
    if (part.state === "done" || part.state === "failed") return;
    part.state = "failed";
    failure ??= message;
  }

  /** Does what the states of all parts allow. */
  function advance(): void {
    if (failure !== undefined) {
      const message = `the new process of another instance failed: ${failure}`;
      for (const part of round) {
        if (part.state !== "waiting" && part.state !== "ready") continue;
        part.state = "done";
        send(part.channel, { type: "refuse", message });
      }
    } else if (round.every(({ state }) => state === "ready")) {
      for (const part of round) {
        part.state = "done";
        send(part.channel, { type: "go" });
        if (part.channel !== undefined) leaving.set(part.channel, undefined);
      }
    } else if (round.every(({ state }) => state !== "signalled")) startNext();
    if (round.every(({ state }) => state === "done" || state === "failed")) round = [];
  }

  /** Lets new processes be started: all at once, or each when the one before it is ready. */
  function startNext(): void {
    const isOrdered = round.some((part) => part.isOrdered);
    if (isOrdered && round.some(({ state }) => state === "starting")) return;
    for (const part of round.filter(({ state }) => state === "waiting")) {
      part.state = "starting";
      send(part.channel, { type: "start" });
      if (isOrdered) return;
    }
  }

  /** Lets the old sockets leave one after the other: on each address the last of all first. */
  function leaveNext(): void {
    if (turn !== undefined || [...leaving.values()].includes(undefined)) return;
    const candidates = [...leaving].flatMap(([channel, positions = {}]) =>
      Object.entries(positions).map(([address, list]) => ({ channel, address, last: Math.max(...list) }))
    );
    const [next] = candidates.sort((a, b) => a.address.localeCompare(b.address) || b.last - a.last);
    if (next === undefined) return;
    turn = next.channel;
    send(next.channel, { type: "leave", address: next.address });
  }

  function leave(channel: Channel, positions: Positions): void {
    if (turn === channel) turn = undefined;
    if (Object.keys(positions).length > 0) leaving.set(channel, positions);
    else leaving.delete(channel);
    leaveNext();
  }

  return {
    begin() {
      if (round.length === 0) open();
      // A process that reloads already remembers the signal; it is served when this round is over.
      for (const { pid } of round) kill(pid, "SIGHUP");
    },
    connect(instance, channel) {
      const partOf = () => round.find((part) => part.channel === channel);
      channel.onMessage((raw) => {
        const message = parseFromInstance(raw);
        switch (message?.type) {
          case "up":
            return instance.setUp();
          case "reloading": {
            if (round.length === 0) {
              open();
              const own = round;
              setTimeout(() => {
                for (const { pid, state } of own === round ? own : []) if (state === "signalled") kill(pid, "SIGHUP");
              }, SIGNAL_DELAY_MS).unref();
            }
            const part = round.find((part) => part.instance === instance && part.state === "signalled");
            if (part === undefined) return send(channel, { type: "refuse", message: "another reload is under way" });
            Object.assign(part, { channel, isOrdered: message.ordered, state: "waiting" });
            return advance();
          }
          case "ready": {
            const part = partOf();
            if (part?.state === "starting") part.state = "ready";
            return advance();
          }
          case "failed": {
            const part = partOf();
            if (part !== undefined) fail(part, message.message);
            return advance();
          }
          case "leaving":
            return leave(channel, message.positions);
        }
      });
      channel.onClose(() => {
        const part = partOf();
        if (part !== undefined) fail(part, "it has ended");
        advance();
        leave(channel, {});
      });
    },
    check() {
      for (const part of round) {
        if (part.state === "signalled" && part.instance.inCharge()?.pid !== part.pid) fail(part, "it has ended");
      }
      if (round.length > 0) advance();
    },
  };
}
