/** Reloading several instances: all of them, or none. */
import { FAILED, GO, NO, READY, RELOADING } from "../service/instances.ts";
import { type Generations, kill } from "./generations.ts";

/** Milliseconds for which the others may have been told already, where one instance begins by itself. */
const GRACE = 300;

/** What is heard of an instance in a round. */
interface Part {
  readonly instance: Generations;
  asked: boolean;
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
    return instances.filter(({ inCharge }) => inCharge() !== undefined).map((instance) => ({
      instance,
      asked: instance.read(RELOADING) !== undefined,
      answer: undefined,
    }));
  }

  function hear(part: Part): void {
    const { instance } = part;
    if (part.answer !== undefined) return;
    if (instance.read(RELOADING) !== undefined) part.asked = true;
    else if (performance.now() - begun > GRACE) ask(part);
    const failed = instance.inCharge() === undefined ? "another instance has ended" : instance.read(FAILED);
    if (failed !== undefined) {
      part.answer = "failed";
      why ??= failed;
      instance.remove(FAILED);
    } else if (instance.read(READY) !== undefined) part.answer = "ready";
  }

  function tell({ instance, answer }: Part): void {
    if (answer !== "ready" || instance.read(READY) === undefined) return;
    instance.remove(READY);
    if (why === undefined) instance.write(GO, "");
    else instance.write(NO, `the new process of another instance failed: ${why}`);
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
      if (parts === undefined && instances.some(({ read }) => read(RELOADING) !== undefined)) parts = open();
      if (parts === undefined) return;
      for (const part of parts) hear(part);
      const isComplete = parts.every(({ answer }) => answer !== undefined);
      // Who is ready after another has failed need not wait for the rest.
      if (isComplete || why !== undefined) parts.forEach(tell);
      if (!isComplete) return;
      for (const { instance } of parts) instance.remove(RELOADING);
      parts = undefined;
    },
  };
}
