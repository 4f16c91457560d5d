import type { Clock } from "../core/adapter.ts";
import type { Participant } from "../core/participant.ts";
import { pause } from "../core/pause.ts";
import type { ServiceAdapter } from "../core/service_adapter.ts";

/** The variable that tells a program how many of its kind `reload-self run` keeps. */
export const INSTANCES_VARIABLE = "RELOAD_SELF_INSTANCES";
/** What an instance says to `reload-self run`: that it reloads, that its new process is ready, or why it failed. */
export const RELOADING = "reloading";
export const READY = "ready";
export const FAILED = "failed";
/** What it is told then: that all are ready, or why not. */
export const GO = "go";
export const NO = "no";

/** Milliseconds between two looks. */
const LOOK = 10;

/** Is this process one of several of its generation, which share its ports? */
export function isOneOfSeveral(adapter: ServiceAdapter): boolean {
  return Number(adapter.variable(INSTANCES_VARIABLE) ?? 1) > 1;
}

/** The participant that waits until the new processes of all instances are ready: all are replaced, or none. */
export function createInstances(adapter: ServiceAdapter, clock: Clock, folder: string): Participant {
  const files = adapter.files();
  const path = (name: string) => `${folder}/${name}`;
  /** Has this reload ended because of another instance? Then that one says so. */
  let refused = false;
  return {
    name: "the other instances",
    prepare() {
      refused = false;
      for (const name of [READY, FAILED, GO, NO]) files.remove(path(name));
      files.replace(path(RELOADING), "");
    },
    async agree({ signal }) {
      files.replace(path(READY), "");
      while (!signal.aborted && files.read(path(GO)) === undefined) {
        const why = files.read(path(NO));
        refused = why !== undefined;
        if (refused) throw new Error(why);
        await pause(clock, LOOK);
      }
    },
    rollback(reason) {
      files.remove(path(READY));
      if (!refused) files.replace(path(FAILED), reason.message);
    },
  };
}
