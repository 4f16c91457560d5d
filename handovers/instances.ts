import type { Clock } from "../core/adapter.ts";
import type { Handover } from "../reload/handover.ts";
import { pause } from "../core/pause.ts";
import type { ServiceAdapter } from "../core/service_adapter.ts";
import type { SharedPorts } from "./shared_ports.ts";
import type { Supervision } from "./run_protocol.ts";

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

/** The other instances of this program, and the handover that waits for them. */
export interface Instances extends SharedPorts {
  readonly handover: Handover;
}

/** The other instances of this program, where `reload-self run` keeps several; otherwise `undefined`. */
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

  return {
    needOrder: () => ordered = ORDERED,
    async turn(positions) {
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
    handover: {
      name: "the other instances",
      ready: () => files.replace(path(UP), ""),
      oldSide({ signal }) {
        let refused = false;
        async function told(name: string): Promise<void> {
          while (!signal.aborted && files.read(path(name)) === undefined) {
            const why = files.read(path(NO));
            refused = why !== undefined;
            if (refused) throw new Error(why);
            await pause(clock, LOOK);
          }
        }
        return {
          async prepare() {
            for (const name of [TURN, READY, FAILED, GO, NO, LEAVING, LEAVE]) files.remove(path(name));
            files.replace(path(RELOADING), ordered);
            await told(TURN);
          },
          async agree() {
            files.replace(path(READY), "");
            await told(GO);
          },
          rollback(reason) {
            files.remove(path(READY));
            if (!refused) files.replace(path(FAILED), reason.message);
          },
        };
      },
    },
  };
}
