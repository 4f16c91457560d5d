/** `reload-self reload`: asks for a reload, and waits for its outcome. */
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { MAX_LINES, type ReloadOutcome, type Status } from "../src/protocol/status.ts";
import {
  type NoAnswer,
  type PipeAnswer,
  pipeName,
  RELOAD,
  requestOnPipe,
} from "../src/windows/named_pipe.ts";
import { Failure } from "./options.ts";
import { checkAlive, isAlive } from "./processes.ts";
import { findReplacement, findStatus, foldersOf, pidOf, statusOf } from "./target.ts";

/**
 * The signals that this command sends: the status file chooses one, and this command may run as
 * root.
 */
const SIGNALS = ["SIGHUP", "SIGUSR1", "SIGUSR2", "SIGQUIT", "SIGWINCH"];

/** Milliseconds between two checks of the status file. */
const STATUS_CHECK_MS = 10;
/** How long it may take until the successor of a process that is gone is found. */
const SUCCESSOR_TIMEOUT_MS = 1_000;

/** The outcome of a reload. */
export interface Reloaded {
  readonly from: number;
  readonly to: number;
  readonly generation: number | undefined;
  readonly milliseconds: number;
}

/** A reload that is waited for. */
interface Waiting {
  /** The process that is to reload. */
  pid: number;
  /** The last that it has written. */
  status: Status;
  /** A reload that was under way does not count: it may have read the old configuration. */
  before: number;
  /** Where its successor is found when it is gone. */
  readonly folders: ReturnType<typeof foldersOf>;
  /** Since when it has been gone, without a successor. */
  goneSince: number | undefined;
}

/** Reloads a program. Throws a Failure with the reason when the process stays in charge. */
export async function reload(target: string, timeout: number): Promise<Reloaded> {
  const status = statusOf(pidOf(target));
  // The process in charge, where the target is its `reload-self run`.
  const { pid, reloads: before } = status;
  const signal = signalOf(status);
  if (process.platform === "win32") return await reloadByPipe(pid, timeout);
  const waiting = { pid, status, before, folders: foldersOf(pid), goneSince: undefined };
  process.kill(pid, signal);

  const deadline = performance.now() + timeout;
  for (;;) {
    const reloaded = await look(waiting);
    if (reloaded !== undefined) return reloaded;
    if (performance.now() > deadline) {
      const { pid, status: { state } } = waiting;
      const seconds = timeout / 1000;
      throw new Failure(1, `process ${pid} has not reloaded within ${seconds} s; it is ${state}`);
    }
    await delay(STATUS_CHECK_MS);
    waiting.status = findStatus(waiting.pid) ?? waiting.status;
  }
}

/** The signal that a process reloads on. */
function signalOf({ pid, signal, state }: Status): string {
  if (signal === undefined) {
    throw new Failure(
      2,
      `process ${pid} takes no signal to reload: it calls token.reload() itself`,
    );
  }
  if (state === "shutting down") throw new Failure(2, `process ${pid} is shutting down`);
  if (process.platform === "win32" || SIGNALS.includes(signal)) return signal;
  const others = SIGNALS.join(", ");
  throw new Failure(
    2,
    `process ${pid} reloads on ${signal}; this command sends only ${others}: use kill(1)`,
  );
}

/** The outcome, once there is one. */
async function look(waiting: Waiting): Promise<Reloaded | undefined> {
  const { pid, status: { last, reloads, state }, before } = waiting;
  const isOver = last !== undefined && last.number === reloads;
  if (isOver && last.number > before) {
    if (last.pid === undefined) throw new Failure(1, await describeFailure(pid, last));
    const generation = findStatus(last.pid)?.generation;
    return { from: pid, to: last.pid, generation, milliseconds: last.milliseconds };
  }
  // It handed over before it could serve this request: its successor does, once it is in charge.
  const next = isOver && last.pid !== undefined && state === "retired"
    ? findStatus(last.pid)
    : undefined;
  if (next !== undefined) follow(waiting, next);
  else if (!isAlive(pid)) return lookForSuccessor(waiting);
  else if (state === "shutting down") throw new Failure(1, `process ${pid} is shutting down`);
  return undefined;
}

/** The request is served by another process. */
function follow(waiting: Waiting, next: Status): void {
  waiting.pid = next.pid;
  waiting.before = 0;
  waiting.status = next;
}

/** The process is gone. Its successor tells how the reload has ended, or is followed. */
function lookForSuccessor(waiting: Waiting): Reloaded | undefined {
  const { pid, before, folders } = waiting;
  const next = findReplacement(folders, pid);
  if (next === undefined) {
    waiting.goneSince ??= performance.now();
    if (performance.now() - waiting.goneSince <= SUCCESSOR_TIMEOUT_MS) return undefined;
    throw new Failure(1, `process ${pid} ended while it was to reload`);
  }
  if (next.from !== undefined && next.from.number > before) {
    const { pid: to, generation, from: { milliseconds } } = next;
    return { from: pid, to, generation, milliseconds };
  }
  follow(waiting, next);
  return undefined;
}

/** Asks a process for a reload where signals do not reach it. */
async function reloadByPipe(pid: number, timeout: number): Promise<Reloaded> {
  const line = await requestOnPipe(pipeName(pid), RELOAD, timeout).catch(
    ({ message, cause }: Error) => {
      const failures: Record<NoAnswer, Failure> = {
        "not served": new Failure(
          2,
          `process ${pid} does not use @js0/reload-self, or belongs to another user: ${message}`,
        ),
        timeout: new Failure(1, `process ${pid} has not reloaded within ${timeout / 1000} s`),
        ended: new Failure(1, `process ${pid} ended while it was to reload`),
      };
      throw failures[cause as NoAnswer];
    },
  );
  const answer = JSON.parse(line) as PipeAnswer;
  if ("error" in answer) {
    throw new Failure(1, `reload failed: ${answer.error}. Process ${pid} stays in charge.`);
  }
  return {
    from: pid,
    to: answer.pid,
    generation: findStatus(answer.pid)?.generation,
    milliseconds: answer.milliseconds,
  };
}

async function describeFailure(
  pid: number,
  { error, failed, output }: ReloadOutcome,
): Promise<string> {
  checkAlive(pid);
  const text = `reload failed: ${error}. Process ${pid} stays in charge.`;
  const lines = output ?? (failed === undefined ? [] : await journal(pid, failed));
  if (lines.length === 0) {
    return failed === undefined ? text : `${text} What it wrote to stderr says why`;
  }
  return [`${text} On stderr:`, ...lines.map((line) => `  ${line}`)].join("\n");
}

/** The lines of a process in systemd's journal, if its stderr leads there. */
async function journal(pid: number, failed: number): Promise<string[]> {
  try {
    if (!/(^|\0)JOURNAL_STREAM=/.test(readFileSync(`/proc/${pid}/environ`, "utf8"))) return [];
    const { stdout } = await promisify(execFile)("journalctl", [
      "-q",
      "-o",
      "cat",
      "-n",
      String(MAX_LINES),
      `_PID=${failed}`,
    ]);
    return stdout.trimEnd().split("\n").filter((line) => line !== "");
  } catch {
    return []; // No journal, or no permission to read it.
  }
}
