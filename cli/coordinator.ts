/** Reloading several instances: all of them, or none. */
import { FAILED, GO, LEAVE, LEAVING, NO, ORDERED, READY, RELOADING, TURN } from "../handovers/instances.ts";
import { type Generations, kill } from "./instance.ts";
import { isAlive } from "./processes.ts";

/** Milliseconds for which the others may have been told already, where one instance begins by itself. */
const GRACE = 300;

/** What is heard of an instance in a round. */
interface Part {
  readonly instance: Generations;
  /** The process that reloads. */
  readonly pid: number;
  asked: boolean;
  mayStart: boolean;
  answer: "ready" | "failed" | undefined;
}

/** The reloads of all instances. */
export interface Round {
  /** Reloads them all. */
  begin(): void;
  /** To be called when something may have changed. */
  look(): void;
}

/** Follows the reloads of all instances. */
export function createRound(instances: readonly Generations[]): Round {
  /** The round that is under way. */
  let parts: Part[] | undefined;
  /** Those whose sockets have to leave. */
  let leaving: Part[] = [];
  let begun = 0;
  let why: string | undefined;

  function ask(part: Part): void {
    const pid = part.instance.inCharge()?.pid;
    if (part.asked || pid === undefined) return;
    part.asked = true;
    kill(pid, "SIGHUP");
  }

  function open(): Part[] {
    begun = performance.now();
    why = undefined;
    return instances.flatMap((instance) => {
      const pid = instance.inCharge()?.pid;
      if (pid === undefined) return [];
      return [{ instance, pid, asked: instance.read(RELOADING) !== undefined, mayStart: false, answer: undefined }];
    });
  }

  function hear(part: Part): void {
    const { instance } = part;
    if (part.answer !== undefined) return;
    const isGone = instance.inCharge() === undefined;
    if (instance.read(RELOADING) !== undefined) part.asked = true;
    else if (performance.now() - begun > GRACE) ask(part);
    // Before it may start, what there is to read is of another round.
    if (!part.mayStart && !isGone) return;
    const failed = isGone ? "it has ended" : instance.read(FAILED);
    if (failed !== undefined) {
      part.answer = "failed";
      why ??= failed;
      instance.remove(FAILED);
    } else if (instance.read(READY) !== undefined) part.answer = "ready";
  }

  /** Lets them start their new processes, all at once, or one when the one before it is ready. */
  function start(parts: readonly Part[]): void {
    if (
      why !== undefined || parts.some(({ instance, answer }) => answer === undefined && instance.read(RELOADING) === undefined)
    ) return;
    const isOrdered = parts.some(({ instance }) => instance.read(RELOADING) === ORDERED);
    for (const part of parts) {
      if (!part.mayStart) part.instance.write(TURN, "");
      part.mayStart = true;
      if (isOrdered && part.answer === undefined) return;
    }
  }

  function tell(part: Part): void {
    const { instance, answer, mayStart } = part;
    if (why === undefined) {
      instance.remove(READY);
      return instance.write(GO, "");
    }
    const refusal = `the new process of another instance failed: ${why}`;
    if (answer === "ready" && instance.read(READY) !== undefined) {
      instance.remove(READY);
      instance.write(NO, refusal);
    } else if (answer === undefined && !mayStart && instance.read(RELOADING) !== undefined) {
      part.answer = "failed";
      instance.write(NO, refusal);
    }
  }

  /** Lets the sockets of the old processes leave: at each address the one that is the last of all. */
  function leave(): void {
    leaving = leaving.filter(({ pid, instance }) => isAlive(pid) && instance.read(LEAVING) !== "{}");
    const waiting = leaving.map(({ instance }) => ({ instance, places: parsePlaces(instance.read(LEAVING)) }));
    if (waiting.some(({ places }) => places === undefined)) return;
    const all = waiting.flatMap(({ instance, places }) =>
      Object.entries(places ?? {}).map(([address, positions]) => ({ instance, address, last: Math.max(...positions) }))
    );
    const [next] = all.sort((a, b) => a.address.localeCompare(b.address) || b.last - a.last);
    if (next !== undefined && next.instance.read(LEAVE) === undefined) next.instance.write(LEAVE, next.address);
  }

  return {
    begin() {
      // A second signal is for each to remember: it is served when this round is over.
      const all = parts ?? open();
      for (const part of all) {
        part.asked = false;
        ask(part);
      }
      parts = all;
    },
    look() {
      if (leaving.length > 0) leave();
      if (parts === undefined && instances.some(({ read }) => read(RELOADING) !== undefined)) parts = open();
      if (parts === undefined) return;
      for (const part of parts) hear(part);
      start(parts);
      const isComplete = () => parts?.every(({ answer }) => answer !== undefined);
      // Who is ready after another has failed need not wait for the rest.
      if (isComplete() || why !== undefined) parts.forEach(tell);
      if (!isComplete()) return;
      for (const { instance } of parts) instance.remove(RELOADING);
      if (why === undefined) leaving = parts;
      parts = undefined;
    },
  };
}

/** Where the sockets of an instance are, by address. */
function parsePlaces(text: string | undefined): Record<string, number[]> | undefined {
  try {
    return JSON.parse(text ?? "");
  } catch {
    return undefined; // It has not come so far.
  }
}
