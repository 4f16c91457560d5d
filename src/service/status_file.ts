import { describeError } from "../core/describe_error.ts";
import type { ServiceAdapter } from "../core/service_adapter.ts";
import { whenCancelled } from "../core/when_cancelled.ts";
import type { ProgramContext } from "../reload/context.ts";
import type { Handover, IncomingHandover, IncomingReload, OutgoingHandover, OutgoingReload } from "../reload/handover.ts";
import { lastLines, parseOrigin, type Status, statusFile } from "../protocol/status.ts";

/** Milliseconds between two checks whether a predecessor that has closed its channel has ended. */
const ENDED_CHECK_MS = 100;

/**
 * Keeps a status file, in a folder that belongs to this user alone; `undefined` where there is no such folder. A file that cannot be written
 * is no reason for a reload to fail.
 */
export function createStatusFile(adapter: ServiceAdapter, program: ProgramContext): Handover | undefined {
  const { clock, generation, hasPredecessor, options, pid, runtime, token } = program;
  const folder = adapter.runtimeFolder();
  if (folder === undefined) return undefined;
  const path = `${folder}/${statusFile(pid)}`;
  const files = adapter.files();
  const status: Status = {
    version: 1,
    pid,
    startTime: adapter.startTime(pid),
    generation,
    runtime,
    since: Date.now(),
    state: hasPredecessor ? "starting" : "serving",
    signal: (options.reloadSignals ?? program.reloadSignals)[0],
    reloads: 0,
  };

  function update(changes: Partial<Status>): void {
    Object.assign(status, changes);
    ignoreErrors(() => files.replace(path, JSON.stringify(status))); // A full disk, a folder that was removed.
  }

  /** Removes the files of a process. Where that fails, readers notice that the process is gone. */
  function removeFilesOf(other: number): void {
    for (const name of [statusFile(other), `${statusFile(other)}.${other}.new`]) {
      ignoreErrors(() => files.remove(`${folder}/${name}`));
    }
  }

  /** Removes the files that killed processes could not remove. */
  function removeLeftovers(): void {
    for (const name of files.list(folder as string)) {
      const other = Number(/^([1-9]\d*)\.json(\.\d+\.new)?$/.exec(name)?.[1]);
      if (other > 0 && other !== pid && !adapter.isAlive(other)) removeFilesOf(other);
    }
  }

  /** A new process that was killed. This one may exit before the reload is rolled back. */
  let failed: number | undefined;
  update({});
  if (!hasPredecessor) removeLeftovers();
  adapter.onExit(() => {
    removeFilesOf(pid);
    if (failed !== undefined) removeFilesOf(failed);
  });
  whenCancelled(token, ({ kind }) => {
    if (kind === "shutdown") update({ state: "shutting down" });
  });

  function outgoing(reload: OutgoingReload): OutgoingHandover {
    const begun = clock.now();
    const elapsed = () => Math.round(clock.now() - begun);
    const output = adapter.errorOutput();
    const number = status.reloads + 1;
    let milliseconds = 0;
    reload.signal.addEventListener("abort", () => failed = reload.pid);
    return {
      prepare() {
        status.reloads++;
        ignoreErrors(removeLeftovers); // Those of predecessors that were killed when they had handed over.
      },
      started: () => update({ state: "reloading" }),
      offer: () => void reload.link.send({ predecessor: pid }).catch(() => {}),
      handedOver() {
        milliseconds = elapsed();
        reload.link.send({ pid, number, milliseconds }).catch(() => {}); // Not awaited: the new process may be gone.
      },
      retire: () => update({ state: "retired", last: { number, milliseconds, pid: reload.pid as number } }),
      rollback(reason) {
        const text = output?.read() ?? "";
        update({
          state: token.isCancelled ? "shutting down" : "serving",
          last: {
            number,
            milliseconds: elapsed(),
            error: describeError(reason),
            ...(failed !== undefined && { failed }),
            ...(text.trim() !== "" && { output: lastLines(text) }),
          },
        });
        if (failed !== undefined) removeFilesOf(failed);
        failed = undefined;
      },
    };
  }

  function incoming({ link }: IncomingReload): IncomingHandover {
    let predecessor: number | undefined;
    link.onData((data) => {
      const from = parseOrigin(data);
      if (from !== undefined) update({ from });
      if (Number.isSafeInteger(data.predecessor)) predecessor = data.predecessor as number;
    });
    return {
      takeOver(departure) {
        update({ state: "serving" });
        if (departure === "handed over") return;
        // A process that dies closes its channel a moment before the kernel has ended it.
        const stop = adapter.every(ENDED_CHECK_MS, () => {
          if (predecessor !== undefined && adapter.isAlive(predecessor)) return;
          if (predecessor !== undefined) removeFilesOf(predecessor);
          stop();
        });
      },
    };
  }

  return { name: "the status file", outgoing, incoming };
}

function ignoreErrors(work: () => void): void {
  try {
    work();
  } catch {
    // See the callers.
  }
}
