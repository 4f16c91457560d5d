/** Reports the process in charge to `reload-self run`. */
import { describeError } from "../core/describe_error.ts";
import type { Files } from "../core/files.ts";
import type { ServiceAdapter, Supervisor } from "../core/service_adapter.ts";
import type { ProgramContext } from "../reload/context.ts";
import { CLAIM, GUARD, IN_CHARGE, parseInCharge } from "../protocol/run.ts";
import { ask, confirm } from "../reload/confirm.ts";
import type { Handover } from "../reload/handover.ts";

/** How long a new process may take to write the file of the process in charge. */
const FOLLOW_TIMEOUT_MS = 1_000;

/** Whether a process below a guard is in charge. */
function isFollowed(files: Pick<Files, "read">, { folder }: Supervisor, guard: number): boolean {
  return parseInCharge(files.read(`${folder}/${IN_CHARGE}`) ?? "")?.guard === guard;
}

/** How `reload-self run` follows this process. */
export interface RunParent {
  readonly supervisor: Supervisor;
  readonly guard: number;
  /** Why nothing can be reported to the supervisor. */
  readonly problem?: string;
}

/**
 * Finds the guard that started this process. `undefined` where `reload-self run` follows another
 * process: every process that a program starts inherits its environment. The guard's own child is
 * followed; below a wrapper such as npm, the first process that asks is. A guard's direct child
 * always wins over its descendants, even if they have asked first.
 */
export function findRunParent(adapter: ServiceAdapter): RunParent | undefined {
  const { supervisor } = adapter;
  if (supervisor === undefined) return undefined;
  const parent = adapter.parent();
  try {
    const files = adapter.files();
    const isGuard = (pid: number) =>
      files.read(`${supervisor.folder}/${GUARD}${pid}`) !== undefined;
    const guard = isGuard(parent) ? parent : supervisor.guard;
    if (guard === undefined || !isGuard(guard)) return undefined;
    const isFirst = files.create(`${supervisor.folder}/${CLAIM}${guard}`);
    if (guard === parent) return { supervisor, guard };
    return isFirst && !isFollowed(files, supervisor, guard) ? { supervisor, guard } : undefined;
  } catch (error) {
    return { supervisor, guard: parent, problem: describeError(error) };
  }
}

/** Reports the process in charge to `reload-self run`. */
export function createRunHandover(
  adapter: ServiceAdapter,
  runParent: RunParent,
  program: ProgramContext,
): Handover {
  const { clock, hasPredecessor, pid, warn } = program;
  const path = `${runParent.supervisor.folder}/${IN_CHARGE}`;
  let problem: string | undefined;
  let isReported = false;

  function fail(why: string): void {
    problem = `it does not learn that process ${pid} is in charge: ${why}`;
    warn(`\`reload-self run\` cannot reload this program: ${problem}`);
  }
  function report(): void {
    if (isReported) return;
    isReported = true;
    try {
      adapter.files().replace(path, `${pid} ${runParent.guard}\n`);
    } catch (error) {
      fail(describeError(error));
    }
  }
  if (runParent.problem !== undefined) fail(runParent.problem);
  else if (
    !hasPredecessor &&
    // The guard's own child may have reported since this process asked.
    (adapter.parent() === runParent.guard ||
      !isFollowed(adapter.files(), runParent.supervisor, runParent.guard))
  ) report();

  return {
    name: "reload-self run",
    outgoing: ({ link }) => ({
      prepare() {
        // It would take the end of this process for the end of the program.
        if (problem !== undefined) throw new Error(problem);
        const followed = parseInCharge(adapter.files().read(path) ?? "")?.pid;
        if (followed === pid) return;
        throw new Error(
          `it follows process ${followed}, which was started by the same command; reload that`,
        );
      },
      // Not earlier: while this process can take charge again, its end would be the end of the
      // program. And not later: signals that are forwarded to this process must still reach it.
      retire: () => ask(link, clock, "follow", "followed", FOLLOW_TIMEOUT_MS),
    }),
    incoming({ link }) {
      confirm(link, "follow", "followed", report);
      return {
        takeOver(predecessor) {
          if (predecessor === "gone") report();
        },
        over: report,
      };
    },
  };
}
