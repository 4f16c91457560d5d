/**
 * What has become of the processes of the program, and when: from what they report, and what is
 * done to them.
 */
import type { Program, Report } from "../../../tests/support/program.ts";
import type { Death, History, Served } from "./verdict.ts";

/** Milliseconds that a report may come late. */
const LATE_MS = 1_000;
/**
 * Milliseconds after the next process listens in which a client may still be answered by nobody: it
 * had tried before.
 */
const AFTER_GAP_MS = 200;
const LOOK_MS = 5;

/** A chronicle that goes on. */
export interface Chronicle extends History {
  /** How many reloads are over, and how many have failed. */
  readonly reloads: { done: number; failed: number };
  /** Reads what a program reports, from its beginning. */
  follow(program: Program): void;
  /** A signal is sent to a process. */
  signal(pid: number, signal: NodeJS.Signals): void;
  /** No file descriptors are left, or there are again. */
  shortage(isOver: boolean): void;
  stop(): void;
}

/**
 * An empty one.
 *
 * @param note Gets a line for what a reload may have to do with that is lost.
 */
export function createChronicle(note: (line: string) => void = () => {}): Chronicle {
  const served = new Map<number, Served>();
  const deaths: Death[] = [];
  const gaps: { from: number; to: number }[] = [];
  const shortages: { from: number; to: number }[] = [];
  const stopped = new Map<number, number>();
  const reloads = { done: 0, failed: 0 };
  let timers: NodeJS.Timeout[] = [];

  /** Whether a process has died that had this pid: the system gives it to another one later. */
  function hasDied(pid: number): boolean {
    const since = served.get(pid)?.from ?? -Infinity;
    return deaths.some((death) => death.pid === pid && death.to >= since);
  }

  /** A process serves. Another one may have had its pid. */
  function begin(pid: number, now: number): void {
    if (served.get(pid)?.until !== Infinity || hasDied(pid)) {
      served.set(pid, { from: now, until: Infinity });
    }
  }

  /** A process that may hold listening sockets is gone. */
  function die(death: Death): void {
    if (hasDied(death.pid)) return;
    deaths.push(death);
    const one = served.get(death.pid);
    if (one?.until === Infinity) gaps.push({ from: death.from, to: Infinity });
  }

  function closeGaps(now: number): void {
    for (const gap of gaps) if (gap.to === Infinity) gap.to = now + AFTER_GAP_MS;
  }

  function read(report: Report, now: number): void {
    const { type, pid, generation, error, wasInCharge } = report;
    switch (type) {
      case "warning":
        note(`process ${pid} warns: ${report.message}`);
        break;
      case "connections-move":
        if (report.left > 0) note(`process ${pid} keeps connections: ${JSON.stringify(report)}`);
        break;
      case "serving":
        if (generation !== 0) break;
        served.set(pid, { from: now, until: Infinity });
        closeGaps(now);
        break;
      case "in-charge":
        begin(pid, now);
        closeGaps(now);
        break;
      case "cancel": {
        const one = served.get(pid);
        if (one !== undefined) one.until = now;
        break;
      }
      case "reload-end":
        reloads.done++;
        break;
      case "reload-fail": {
        reloads.failed++;
        const successor = error?.pid as number | undefined;
        if (successor !== undefined) {
          // It may have died before it could say that it was in charge.
          if (wasInCharge && !served.has(successor)) {
            served.set(successor, { from: now - LATE_MS, until: Infinity });
          }
          die({ pid: successor, from: stopped.get(successor) ?? now - LATE_MS, to: now });
        }
        closeGaps(now);
        break;
      }
    }
  }

  return {
    served,
    deaths,
    gaps,
    shortages,
    reloads,
    follow(program) {
      let position = 0;
      timers.push(setInterval(() => {
        const now = performance.now();
        for (; position < program.reports.length; position++) {
          read(program.reports[position] as Report, now);
        }
      }, LOOK_MS));
    },
    signal(pid, signal) {
      const now = performance.now();
      if (signal === "SIGSTOP") stopped.set(pid, now);
      else if (signal === "SIGCONT") stopped.delete(pid);
      else if (signal === "SIGKILL") die({ pid, from: stopped.get(pid) ?? now, to: now });
    },
    shortage(isOver) {
      const now = performance.now();
      if (!isOver) return void shortages.push({ from: now, to: Infinity });
      for (const shortage of shortages) {
        if (shortage.to === Infinity) shortage.to = now + AFTER_GAP_MS;
      }
    },
    stop() {
      for (const timer of timers) clearInterval(timer);
      timers = [];
    },
  };
}
