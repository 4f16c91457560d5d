import { describeError, ReloadError, type ReloadErrorCode } from "../core/error.ts";
import type { ReloadEvent } from "../core/event.ts";
import type { Handover, OldSide, Reload } from "./handover.ts";

/** The handovers of one reload, in the old process. */
export interface OldSides {
  /** Lets every handover take a step that may fail, one after the other. `step` rejects as soon as the reload fails. */
  everyone(
    what: string,
    take: (side: OldSide) => void | Promise<void>,
    step: <T>(work: Promise<T>) => Promise<T>,
  ): Promise<void>;
  /** Lets every handover prepare. From then on it takes part in a rollback. */
  prepare(step: <T>(work: Promise<T>) => Promise<T>): Promise<void>;
  /** Lets every handover take a step that cannot fail any more: the new process is in charge. */
  leave(take: (side: OldSide) => void | Promise<void>): Promise<void>;
  /** Lets every handover that was asked to prepare undo what it did, the last one first. */
  rollBack(reason: ReloadError): Promise<void>;
  /** Will any handover send listening sockets? */
  sendSockets(): boolean;
  /** What the handovers know about the reason of a failure, to be appended to its message. */
  explain(code: ReloadErrorCode): string;
}

/** Makes the objects of one reload. */
export function createOldSides(
  handovers: readonly Handover[],
  reload: (name: string) => Reload,
  emit: (event: ReloadEvent) => void,
): OldSides {
  const sides = handovers.map(({ name, oldSide }) => ({
    name,
    side: oldSide?.(reload(name)) ?? {},
    pid: () => reload(name).pid,
  }));
  const asked = new Set<OldSide>();

  const everyone: OldSides["everyone"] = async (what, take, step) => {
    for (const { name, side, pid } of sides) {
      try {
        await step((async () => await take(side))());
      } catch (cause) {
        throw new ReloadError("participant", `${name} could not ${what}: ${describeError(cause)}`, { cause, pid: pid() });
      }
    }
  };

  return {
    everyone,
    prepare: (step) =>
      everyone("prepare", (side) => {
        asked.add(side);
        return side.prepare?.();
      }, step),
    async leave(take) {
      for (const { name, side } of sides) {
        try {
          await take(side);
        } catch (error) {
          emit({ type: "warning", message: `${name} could not retire: ${describeError(error)}` });
        }
      }
    },
    async rollBack(reason) {
      for (const { name, side } of sides.toReversed()) {
        if (!asked.has(side)) continue;
        try {
          await side.rollback?.(reason);
        } catch (error) {
          emit({ type: "rollback-fail", participant: name, error });
        }
      }
    },
    sendSockets: () => sides.some(({ side }) => side.sendsSockets?.()),
    explain: (code) => sides.map(({ side }) => side.explain?.(code)).filter(Boolean).map((clause) => `; ${clause}`).join(""),
  };
}
