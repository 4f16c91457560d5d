import type { StartRequest } from "../core/adapter.ts";
import { describeError } from "../core/describe_error.ts";
import { ReloadError, type ReloadErrorCode } from "../core/error.ts";
import type { ReloadEvent } from "../core/event.ts";
import type { Handover, OldSide, Reload } from "./handover.ts";

/** The handovers of one reload, in the old process. */
export interface OldSides {
  /** Lets every handover take a step that may fail, one after the other. */
  everyone(what: string, take: (side: OldSide) => void | Promise<void>): Promise<void>;
  /** Lets every handover prepare. From then on it takes part in a rollback. */
  prepare(): Promise<void>;
  /** Lets every handover take a step that cannot fail any more: the new process is in charge. */
  leave(take: (side: OldSide) => void | Promise<void>): Promise<void>;
  /** Lets every handover that was asked to prepare undo what it did, the last one first. */
  rollBack(reason: ReloadError): Promise<void>;
  /** What the handovers want of the start. */
  sends(): Pick<StartRequest, "sendsSockets" | "sendsDescriptors" | "native">;
  /** What the handovers know about the reason of a failure, to be appended to its message. */
  explain(code: ReloadErrorCode): string;
}

/**
 * Makes the objects of one reload.
 *
 * @param step Waits for a step, and rejects as soon as the reload fails.
 */
export function createOldSides(
  handovers: readonly Handover[],
  reloadFor: (name: string) => Reload,
  step: <T>(work: Promise<T>) => Promise<T>,
  emit: (event: ReloadEvent) => void,
): OldSides {
  const sides = handovers.map(({ name, oldSide }) => {
    const reload = reloadFor(name);
    return { name, reload, side: oldSide?.(reload) ?? {} };
  });
  const asked = new Set<OldSide>();

  const everyone: OldSides["everyone"] = async (what, take) => {
    for (const { name, reload, side } of sides) {
      try {
        await step((async () => await take(side))());
      } catch (cause) {
        throw new ReloadError("participant", `${name} could not ${what}: ${describeError(cause)}`, {
          cause,
          pid: reload.pid,
        });
      }
    }
  };

  return {
    everyone,
    prepare: () =>
      everyone("prepare", (side) => {
        asked.add(side);
        return side.prepare?.();
      }),
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
    sends() {
      const native = sides.flatMap(({ side }) => side.native?.() ?? []);
      return {
        sendsSockets: sides.some(({ side }) => side.sendsSockets?.()),
        sendsDescriptors: sides.some(({ side }) => side.sendsDescriptors?.()),
        native: native.length > 0 ? JSON.stringify(native) : undefined,
      };
    },
    explain: (code) => sides.map(({ side }) => side.explain?.(code)).filter(Boolean).map((clause) => `; ${clause}`).join(""),
  };
}
