import type { Clock } from "../core/adapter.ts";
import type { Participant } from "../core/participant.ts";
import { pause } from "../core/pause.ts";
import type { ServiceAdapter } from "../core/service_adapter.ts";
import type { SharedPorts } from "../core/shared_ports.ts";
import type { Supervision } from "./supervised.ts";

/** What an instance says to `reload-self run`: that it is there, with all its sockets. */
export const UP = "up";
/** That it reloads; what is in the file says whether the new processes must be started one after the other. */
export const RELOADING = "reloading";
export const ORDERED = "ordered";
/** That its new process is ready, or why it failed. */
export const READY = "ready";
export const FAILED = "failed";
/** What it is told: that it may start its new process, that all are ready, or why not. */
export const TURN = "turn";
export const GO = "go";
export const NO = "no";
/** That its sockets are to leave, and where they are; and what it is told: at which address its last one may. */
export const LEAVING = "leaving";
export const LEAVE = "leave";

/** Milliseconds between two looks. */
const LOOK = 5;
/** How long a socket waits for its turn to leave, where somebody is gone who should have left before. */
const PATIENCE = 5_000;

/** What instances have to do with one another, and the participant. */
export interface Instances extends SharedPorts {
  readonly participant: Participant;
}

/** The other instances of this program, where `reload-self run` keeps several; `undefined` where it does not. */
export function createInstances(
  adapter: ServiceAdapter,
  supervision: Supervision | undefined,
  clock: Clock,
): Instances | undefined {
  if (supervision === undefined || !(supervision.supervisor.instances > 1)) return undefined;
  const { folder } = supervision.supervisor;
  const files = adapter.files();
  const path = (name: string) => `${folder}/${name}`;
  let ordered = "";
  /** Has this reload ended because of another instance? Then that one says so. */
  let refused = false;

  /** Waits until the file is there. */
  async function told(name: string, signal: AbortSignal): Promise<void> {
    while (!signal.aborted && files.read(path(name)) === undefined) {
      const why = files.read(path(NO));
      refused = why !== undefined;
      if (refused) throw new Error(why);
      await pause(clock, LOOK);
    }
  }

  return {
    needOrder: () => ordered = ORDERED,
    async turn(positions) {
      // In this order: what is read meanwhile is no reason to be told again.
      files.replace(path(LEAVING), JSON.stringify(positions));
      files.remove(path(LEAVE));
      const [any] = Object.keys(positions);
      for (const begun = clock.now(); any !== undefined && clock.now() - begun < PATIENCE;) {
        const address = files.read(path(LEAVE));
        if (address !== undefined && address in positions) return address;
        await pause(clock, LOOK);
      }
      return any;
    },
    participant: {
      name: "the other instances",
      ready: () => files.replace(path(UP), ""),
      async prepare({ signal }) {
        refused = false;
        for (const name of [TURN, READY, FAILED, GO, NO, LEAVING, LEAVE]) files.remove(path(name));
        files.replace(path(RELOADING), ordered);
        await told(TURN, signal);
      },
      async agree({ signal }) {
        files.replace(path(READY), "");
        await told(GO, signal);
      },
      rollback(reason) {
        files.remove(path(READY));
        if (!refused) files.replace(path(FAILED), reason.message);
      },
    },
  };
}
