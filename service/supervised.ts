import type { Clock } from "../core/adapter.ts";
import { describeError } from "../core/error.ts";
import type { Link, Participant } from "../core/participant.ts";
import { atMost } from "../core/pause.ts";
import type { ServiceAdapter, Supervisor } from "../core/service_adapter.ts";

/** The file in the folder of `reload-self run` with the process in charge. */
export const IN_CHARGE = "in-charge";
/** With what the files begin that a guard makes while its process lives, and when that has ended. The guard's pid follows. */
export const GUARD = "guard.";
export const EXIT = "exit.";
/** With what the file begins that the first program below a guard makes. */
const CLAIM = "claim.";

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

/** This process as `reload-self run` follows it. */
export interface Supervision {
  readonly supervisor: Supervisor;
  readonly guard: number;
  /** Why the supervisor cannot be told anything. */
  readonly problem?: string;
}

/**
 * Finds the guard that this process was started by, or `undefined` where `reload-self run` follows another process: everything that a
 * program starts inherits its environment. The guard's own child is meant; below a wrapper such as npm it is the first process that asks.
 */
export function findSupervision(adapter: ServiceAdapter): Supervision | undefined {
  const { supervisor } = adapter;
  if (supervisor === undefined) return undefined;
  const parent = adapter.parent();
  try {
    const files = adapter.files();
    const isGuard = (pid: number) => files.read(`${supervisor.folder}/${GUARD}${pid}`) !== undefined;
    const guard = isGuard(parent) ? parent : supervisor.guard;
    if (guard === undefined || !isGuard(guard)) return undefined;
    const isFirst = files.create(`${supervisor.folder}/${CLAIM}${guard}`);
    return isFirst || guard === parent ? { supervisor, guard } : undefined;
  } catch (error) {
    return { supervisor, guard: parent, problem: describeError(error) };
  }
}

/** Milliseconds that a new process may take to write itself down. */
const PATIENCE = 1_000;

/** The participant that tells `reload-self run` who is in charge. */
export function createSupervised(
  adapter: ServiceAdapter,
  clock: Clock,
  { supervisor, guard, problem: unknown }: Supervision,
  pid: number,
  hasPredecessor: boolean,
  warn: (line: string) => void,
): Participant {
  let problem: string | undefined;
  function fail(why: string): void {
    problem = `it does not learn that process ${pid} is in charge: ${why}`;
    warn(`\`reload-self run\` cannot reload this program: ${problem}`);
  }
  let toSuccessor: Link | undefined;
  let told = Promise.withResolvers<void>();
  let isTold = false;
  function tell(): void {
    if (isTold) return;
    isTold = true;
    try {
      adapter.files().replace(`${supervisor.folder}/${IN_CHARGE}`, formatInCharge({ pid, guard }));
    } catch (error) {
      fail(describeError(error));
    }
  }
  if (unknown !== undefined) fail(unknown);
  else if (!hasPredecessor) tell();
  return {
    name: "reload-self run",
    succeed(predecessor) {
      if (predecessor === "gone") tell();
    },
    over: tell,
    inherit(link) {
      link.onData((data) => {
        if ((data as { follow?: unknown }).follow !== true) return;
        tell();
        link.send({ followed: true }).catch(() => {});
      });
    },
    offer(link) {
      toSuccessor = link;
      told = Promise.withResolvers();
      link.onData((data) => {
        if ((data as { followed?: unknown }).followed === true) told.resolve();
      });
    },
    // Not before: as long as this process can take charge again, its end would be the end of the program. And not later: signals that are
    // forwarded to it must still find it.
    async retire() {
      await toSuccessor?.send({ follow: true });
      await atMost(clock, PATIENCE, told.promise);
    },
    prepare() {
      // It would take the end of this process for the end of the program.
      if (problem !== undefined) throw new Error(problem);
      const followed = parseInCharge(adapter.files().read(`${supervisor.folder}/${IN_CHARGE}`) ?? "")?.pid;
      if (followed !== pid) {
        throw new Error(`it follows process ${followed}, which was started by the same command; reload that`);
      }
    },
  };
}
