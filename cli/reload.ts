/** `reload-self reload`: asks for a reload, and waits for its outcome. */
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import type { ReloadOutcome, Status } from "../src/protocol/status.ts";
import { type NoAnswer, type PipeAnswer, pipeName, RELOAD, requestOnPipe } from "../src/windows/named_pipe.ts";
import { Failure } from "./options.ts";
import { checkAlive, isAlive } from "./processes.ts";
import { findReplacement, findStatus, foldersOf, pidOf, statusOf } from "./target.ts";

/** The signals that this command sends: the status file chooses one, and this command may run as root. */
const SIGNALS = ["SIGHUP", "SIGUSR1", "SIGUSR2", "SIGQUIT", "SIGWINCH"];

/** Milliseconds between two checks of the status file. */
const STATUS_CHECK_MS = 10;
/** The lines that are shown of a journal. */
const MAX_LINES = 10;
/** How long it may take until the successor of a process that is gone is found. */
const SUCCESSOR_TIMEOUT_MS = 1_000;

/** The outcome of a reload. */
export interface Reloaded {
  readonly from: number;
  readonly to: number;
  readonly generation: number | undefined;
  readonly milliseconds: number;
}

/** Reloads a program. Throws a Failure with the reason when the program goes on unchanged. */
export async function reload(target: string, timeout: number): Promise<Reloaded> {
  let pid = pidOf(target);
  let status = statusOf(pid);
  pid = status.pid; // The process in charge, where the target is its `reload-self run`.
  const { signal } = status;
  if (signal === undefined) throw new Failure(2, `process ${pid} takes no signal to reload: it calls token.reload() itself`);
  if (status.state === "shutting down") throw new Failure(2, `process ${pid} is shutting down`);
  if (process.platform === "win32") {
    return await reloadByPipe(pid, timeout);
  }
  if (!SIGNALS.includes(signal)) {
    throw new Failure(2, `process ${pid} reloads on ${signal}; this command sends only ${SIGNALS.join(", ")}: use kill(1)`);
  }
  // A reload that is under way does not count: it may have read the old configuration.
  let before = status.reloads;
  process.kill(pid, signal);

  const folders = foldersOf(pid);
  let gone: number | undefined;
  const deadline = performance.now() + timeout;
  for (let seen: Status | undefined = status;; await delay(STATUS_CHECK_MS), seen = findStatus(pid)) {
    if (seen !== undefined) status = seen;
    const { last } = status;
    const isOver = last !== undefined && last.number === status.reloads;
    if (isOver && last.number > before) {
      if (last.pid === undefined) throw new Failure(1, await describeFailure(pid, last));
      return { from: pid, to: last.pid, generation: findStatus(last.pid)?.generation, milliseconds: last.milliseconds };
    }
    // It handed over before it could serve this request: its successor does, once it is in charge.
    if (isOver && last.pid !== undefined && status.state === "retired") {
      pid = last.pid;
      before = 0;
      continue;
    }
    if (!isAlive(pid)) {
      const next = findReplacement(folders, pid);
      if (next?.from !== undefined && next.from.number > before) {
        return { from: pid, to: next.pid, generation: next.generation, milliseconds: next.from.milliseconds };
      }
      if (next !== undefined) {
        pid = next.pid;
        before = 0;
        status = next;
        continue;
      }
      gone ??= performance.now();
      if (performance.now() - gone > SUCCESSOR_TIMEOUT_MS) throw new Failure(1, `process ${pid} ended while it was to reload`);
      continue;
    }
    if (status.state === "shutting down") throw new Failure(1, `process ${pid} is shutting down`);
    if (performance.now() > deadline) {
      throw new Failure(1, `process ${pid} has not reloaded within ${timeout / 1000} s; it is ${status.state}`);
    }
  }
}

/** Asks a process for a reload where signals do not reach it. */
async function reloadByPipe(pid: number, timeout: number): Promise<Reloaded> {
  const line = await requestOnPipe(pipeName(pid), RELOAD, timeout).catch(({ message, cause }: Error) => {
    const failures: Record<NoAnswer, Failure> = {
      "not served": new Failure(2, `process ${pid} does not use @js0/reload-self, or belongs to another user: ${message}`),
      timeout: new Failure(1, `process ${pid} has not reloaded within ${timeout / 1000} s`),
      ended: new Failure(1, `process ${pid} ended while it was to reload`),
    };
    throw failures[cause as NoAnswer];
  });
  const answer = JSON.parse(line) as PipeAnswer;
  if ("error" in answer) throw new Failure(1, `reload failed: ${answer.error}. Process ${pid} goes on unchanged.`);
  return { from: pid, to: answer.pid, generation: findStatus(answer.pid)?.generation, milliseconds: answer.milliseconds };
}

async function describeFailure(pid: number, { error, failed, output }: ReloadOutcome): Promise<string> {
  checkAlive(pid);
  const text = `reload failed: ${error}. Process ${pid} goes on unchanged.`;
  const lines = output ?? (failed === undefined ? [] : await journal(pid, failed));
  if (lines.length === 0) return failed === undefined ? text : `${text} What it wrote to stderr says why`;
  return [`${text} On stderr:`, ...lines.map((line) => `  ${line}`)].join("\n");
}

/** The lines of a process in systemd's journal, if its stderr leads there. */
async function journal(pid: number, failed: number): Promise<string[]> {
  try {
    if (!/(^|\0)JOURNAL_STREAM=/.test(readFileSync(`/proc/${pid}/environ`, "utf8"))) return [];
    const { stdout } = await promisify(execFile)("journalctl", ["-q", "-o", "cat", "-n", String(MAX_LINES), `_PID=${failed}`]);
    return stdout.trimEnd().split("\n").filter((line) => line !== "");
  } catch {
    return []; // No journal, or no permission to read it.
  }
}
