import type { StartRequest } from "../core/adapter.ts";
import { describeError } from "../core/describe_error.ts";
import { ReloadError, type ReloadErrorCode } from "../core/error.ts";
import type { ReloadEvent } from "../core/event.ts";
import type { Handover, MovedConnections, OutgoingHandover, OutgoingReload } from "./handover.ts";

/** The handovers of one reload, in the old process. */
export interface OutgoingHandovers {
  /**
   * Lets every handover take a step that may fail, one after the other.
   *
   * @param code That of the error. Default: `handover`.
   */
  runStep(
    what: string,
    take: (side: OutgoingHandover) => void | Promise<void>,
    code?: ReloadErrorCode,
  ): Promise<void>;
  /** Lets every handover prepare. From then on it takes part in a rollback. */
  prepare(): Promise<void>;
  /** Lets every handover take a step that cannot fail any more: the new process is in charge. */
  runFinalStep(take: (side: OutgoingHandover) => void | Promise<void>): Promise<void>;
  /** Lets every handover that was asked to prepare undo what it did, the last one first. */
  rollBack(reason: ReloadError): Promise<void>;
  /** Reports what became of the connections, once for all handovers. */
  reportMoved(pid: number): void;
  /** What the handovers want of the start. */
  sends(): Pick<StartRequest, "sendsSockets" | "sendsDescriptors" | "native">;
  /** What the handovers know about the reason of a failure, to be appended to its message. */
  explain(code: ReloadErrorCode): string;
}

/** The connections of one kind. */
function count(
  all: readonly MovedConnections[],
  kind: MovedConnections["kind"],
): { moved: number; left: number } {
  const those = all.filter((moved) => moved.kind === kind);
  return {
    moved: those.reduce((sum, { moved }) => sum + moved, 0),
    left: those.reduce((sum, { left }) => sum + left, 0),
  };
}

/** A handover, and its part of one reload. */
interface Side {
  readonly name: string;
  readonly reload: OutgoingReload;
  readonly side: OutgoingHandover;
}

/**
 * Makes the objects of one reload.
 *
 * @param step Waits for a step, and rejects as soon as the reload fails.
 */
export function createOutgoingHandovers(
  handovers: readonly Handover[],
  reloadFor: (name: string) => OutgoingReload,
  step: <T>(work: Promise<T>) => Promise<T>,
  emit: (event: ReloadEvent) => void,
): OutgoingHandovers {
  const sides = handovers.map(({ name, outgoing }): Side => {
    const reload = reloadFor(name);
    return { name, reload, side: outgoing?.(reload) ?? {} };
  });
  const asked = new Set<OutgoingHandover>();

  const runStep: OutgoingHandovers["runStep"] = async (what, take, code = "handover") => {
    for (const { name, reload, side } of sides) {
      try {
        await step((async () => await take(side))());
      } catch (cause) {
        throw new ReloadError(code, `${name} could not ${what}: ${describeError(cause)}`, {
          cause,
          pid: reload.pid,
        });
      }
    }
  };

  return {
    runStep,
    prepare: () =>
      runStep("prepare", (side) => {
        asked.add(side);
        return side.prepare?.();
      }),
    async runFinalStep(take) {
      for (const { name, side } of sides) {
        try {
          await take(side);
        } catch (error) {
          emit({ type: "warning", message: `${name} could not retire: ${describeError(error)}` });
        }
      }
    },
    rollBack: (reason) => rollBack(sides.filter(({ side }) => asked.has(side)), reason, emit),
    reportMoved: (pid) => reportMoved(sides, pid, emit),
    sends: () => whatIsSent(sides),
    explain: (code) =>
      sides.map(({ side }) => side.explain?.(code)).filter(Boolean).map((clause) => `; ${clause}`)
        .join(""),
  };
}

async function rollBack(
  sides: readonly Side[],
  reason: ReloadError,
  emit: (event: ReloadEvent) => void,
): Promise<void> {
  for (const { name, side } of sides.toReversed()) {
    try {
      await side.rollback?.(reason);
    } catch (error) {
      emit({ type: "rollback-fail", handover: name, error });
    }
  }
}

function reportMoved(
  sides: readonly Side[],
  pid: number,
  emit: (event: ReloadEvent) => void,
): void {
  const all = sides.map(({ side }) => side.moved?.()).filter((moved) => moved !== undefined);
  if (all.length === 0) return;
  const milliseconds = all.reduce((sum, { milliseconds }) => sum + milliseconds, 0);
  const [idle, live] = [count(all, "idle"), count(all, "live")];
  const [moved, left] = [idle.moved + live.moved, idle.left + live.left];
  emit({ type: "connections-move", pid, moved, left, idle, live, milliseconds });
}

function whatIsSent(sides: readonly Side[]): ReturnType<OutgoingHandovers["sends"]> {
  const native = sides.flatMap(({ side }) => side.native?.() ?? []);
  return {
    sendsSockets: sides.some(({ side }) => side.sendsSockets?.()),
    sendsDescriptors: sides.some(({ side }) => side.sendsDescriptors?.()),
    native: native.length > 0 ? JSON.stringify(native) : undefined,
  };
}
