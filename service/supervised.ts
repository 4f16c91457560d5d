import { describeError } from "../core/error.ts";
import type { Participant } from "../core/participant.ts";
import type { ServiceAdapter } from "../core/service_adapter.ts";

/** The variable that tells a program in which folder `reload-self run` follows it. */
export const FOLDER_VARIABLE = "RELOAD_SELF_RUN";
/** The file in that folder with the process in charge. */
export const IN_CHARGE = "in-charge";
/** With what the files begin that a guard makes while its process lives, and when that has ended. The guard's pid follows. */
export const GUARD = "guard.";
export const EXIT = "exit.";

/** The process in charge, and the guard that is its parent. */
export interface InCharge {
  readonly pid: number;
  readonly guard: number;
}

/** What is in the file of the process in charge. */
export function formatInCharge({ pid, guard }: InCharge): string {
  return `${pid} ${guard}\n`;
}

/** Reads the file of the process in charge; `undefined` where it is none. */
export function parseInCharge(text: string): InCharge | undefined {
  const match = /^([1-9]\d{0,9}) ([1-9]\d{0,9})\n$/.exec(text);
  return match === null ? undefined : { pid: Number(match[1]), guard: Number(match[2]) };
}

/** The participant that tells `reload-self run` who is in charge. */
export function createSupervised(
  adapter: ServiceAdapter,
  folder: string,
  pid: number,
  hasPredecessor: boolean,
  warn: (line: string) => void,
): Participant {
  const guard = adapter.parent();
  let problem: string | undefined;
  function tell(): void {
    try {
      adapter.files().replace(`${folder}/${IN_CHARGE}`, formatInCharge({ pid, guard }));
    } catch (error) {
      problem = `it does not learn that process ${pid} is in charge: ${describeError(error)}`;
      warn(`\`reload-self run\` cannot reload this program: ${problem}`);
    }
  }
  if (!hasPredecessor) tell();
  return {
    name: "reload-self run",
    succeed: tell,
    prepare() {
      // It would take the end of this process for the end of the program.
      if (problem !== undefined) throw new Error(problem);
    },
  };
}
