import { attempt } from "../core/attempt.ts";
import { describeError } from "../core/describe_error.ts";
import type { Files } from "../core/files.ts";
import type { ServiceAdapter } from "../core/service_adapter.ts";
import { whenCancelled } from "../core/when_cancelled.ts";
import type { ProgramContext } from "../reload/context.ts";
import type {
  Handover,
  IncomingHandover,
  IncomingReload,
  OutgoingHandover,
  OutgoingReload,
} from "../reload/handover.ts";
import { lastLines, parseOrigin, type Status, statusFile } from "../protocol/status.ts";

/** Milliseconds between two checks whether a predecessor that has closed its channel has ended. */
const ENDED_CHECK_MS = 100;

/** The status file of this process, in a folder with those of the user's other programs. */
class StatusFile {
  readonly #adapter: ServiceAdapter;
  readonly #folder: string;
  readonly #files: Files;
  readonly status: Status;
  /** A new process that was killed. This one may exit before the reload is rolled back. */
  failed: number | undefined;

  constructor(adapter: ServiceAdapter, folder: string, status: Status) {
    this.#adapter = adapter;
    this.#folder = folder;
    this.#files = adapter.files();
    this.status = status;
    this.update({});
    adapter.onExit(() => {
      this.removeFilesOf(status.pid);
      this.removeFailed();
    });
  }

  /** Where that fails, because the disk is full or the folder was removed, the reload goes on. */
  update(changes: Partial<Status>): void {
    Object.assign(this.status, changes);
    attempt(() =>
      this.#files.replace(
        `${this.#folder}/${statusFile(this.status.pid)}`,
        JSON.stringify(this.status),
      )
    );
  }

  /** Removes the files of a process. Where that fails, readers notice that the process is gone. */
  removeFilesOf(pid: number): void {
    for (const name of [statusFile(pid), `${statusFile(pid)}.${pid}.new`]) {
      attempt(() => this.#files.remove(`${this.#folder}/${name}`));
    }
  }

  removeFailed(): void {
    if (this.failed !== undefined) this.removeFilesOf(this.failed);
  }

  /** Removes the files that killed processes could not remove. */
  removeLeftovers(): void {
    for (const name of this.#files.list(this.#folder)) {
      const other = Number(/^([1-9]\d*)\.json(\.\d+\.new)?$/.exec(name)?.[1]);
      if (other > 0 && other !== this.status.pid && !this.#adapter.isAlive(other)) {
        this.removeFilesOf(other);
      }
    }
  }
}

/**
 * Keeps a status file, in a folder that belongs to this user alone; `undefined` where there is no
 * such folder. A file that cannot be written is no reason for a reload to fail.
 */
export function createStatusFile(
  adapter: ServiceAdapter,
  program: ProgramContext,
): Handover | undefined {
  const { generation, hasPredecessor, options, pid, runtime, token } = program;
  const folder = adapter.runtimeFolder();
  if (folder === undefined) return undefined;
  const file = new StatusFile(adapter, folder, {
    version: 1,
    pid,
    startTime: adapter.startTime(pid),
    generation,
    runtime,
    since: Date.now(),
    state: hasPredecessor ? "starting" : "serving",
    signal: (options.reloadSignals ?? program.reloadSignals)[0],
    reloads: 0,
  });
  if (!hasPredecessor) file.removeLeftovers();
  whenCancelled(token, ({ kind }) => {
    if (kind === "shutdown") file.update({ state: "shutting down" });
  });
  return {
    name: "the status file",
    outgoing: (reload) => reportReload(file, adapter, program, reload),
    incoming: (arrival) => followPredecessor(file, adapter, arrival),
  };
}

function reportReload(
  file: StatusFile,
  adapter: ServiceAdapter,
  { clock, pid, token }: ProgramContext,
  reload: OutgoingReload,
): OutgoingHandover {
  const begun = clock.now();
  const elapsed = () => Math.round(clock.now() - begun);
  const output = adapter.errorOutput();
  const number = file.status.reloads + 1;
  let milliseconds = 0;
  reload.signal.addEventListener("abort", () => file.failed = reload.pid);
  return {
    prepare() {
      file.status.reloads++;
      // Those of predecessors that were killed when they had handed over.
      attempt(() => file.removeLeftovers());
    },
    started: () => file.update({ state: "reloading" }),
    offer: () => void reload.link.send({ predecessor: pid }).catch(() => {}),
    handedOver() {
      milliseconds = elapsed();
      // Not awaited: the new process may be gone.
      reload.link.send({ pid, number, milliseconds }).catch(() => {});
    },
    retire: () =>
      file.update({ state: "retired", last: { number, milliseconds, pid: reload.pid as number } }),
    rollback(reason) {
      const { failed } = file;
      const text = output?.read() ?? "";
      file.update({
        state: token.isCancelled ? "shutting down" : "serving",
        last: {
          number,
          milliseconds: elapsed(),
          error: describeError(reason),
          ...(failed !== undefined && { failed }),
          ...(text.trim() !== "" && { output: lastLines(text) }),
        },
      });
      file.removeFailed();
      file.failed = undefined;
    },
  };
}

function followPredecessor(
  file: StatusFile,
  adapter: ServiceAdapter,
  { link }: IncomingReload,
): IncomingHandover {
  let predecessor: number | undefined;
  link.onData((data) => {
    const from = parseOrigin(data);
    if (from !== undefined) file.update({ from });
    if (Number.isSafeInteger(data.predecessor)) predecessor = data.predecessor as number;
  });
  return {
    takeOver(departure) {
      file.update({ state: "serving" });
      if (departure === "handed over") return;
      // A process that dies closes its channel a moment before the kernel has ended it.
      const stop = adapter.every(ENDED_CHECK_MS, () => {
        if (predecessor !== undefined && adapter.isAlive(predecessor)) return;
        if (predecessor !== undefined) file.removeFilesOf(predecessor);
        stop();
      });
    },
  };
}
