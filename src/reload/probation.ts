/** The time in which a new process that is in charge must prove itself. */
import type { Clock } from "../core/adapter.ts";
import { atMost, STOPPED_MS } from "../core/pause.ts";

/** Milliseconds between two questions to the new process. */
const INTERVAL_MS = 100;
/**
 * How long it may leave one unanswered. A server may compute for a second or two at its first
 * requests; one that is in a loop never answers.
 */
const SILENCE_MS = 5_000;
/**
 * How long a process goes on after a stop before it lets go: what its clients have sent meanwhile
 * is still unread.
 */
const AFTER_STOP_MS = 300;
/** A process that is late all the time is busy, not stopped. */
const MOST_STOPS = 3;

/** What a probation needs. */
export interface ProbationOptions {
  clock: Clock;
  /** How long it lasts, in milliseconds. */
  time: number;
  /** It is not over before this. */
  until?: Promise<unknown>;
  /** Resolves when the new process has answered. */
  ask(): Promise<void>;
  /**
   * Fires when the probation is over early: the reload has failed, or one of the processes shuts
   * down.
   */
  ended: AbortSignal;
}

/**
 * Resolves with `passed` when the time is over and the new process has answered a last question,
 * with `silent` when it does not answer, and with `ended` when the probation is over early. Time
 * for which this process was stopped does not count.
 */
export async function passProbation(
  { clock, time, until, ask, ended }: ProbationOptions,
): Promise<"passed" | "silent" | "ended"> {
  const isEnded = new Promise<void>((resolve) =>
    ended.addEventListener("abort", () => resolve(), { once: true })
  );
  let stops = 0;
  let mayEnd = until === undefined;
  const permission = until?.then(() => void (mayEnd = true), () => isEnded);
  if (ended.aborted) return "ended";

  /** Waits, and returns how much of the time counts. */
  async function wait(milliseconds: number, until: Promise<void> = isEnded): Promise<number> {
    const begun = clock.now();
    await atMost(clock, milliseconds, Promise.race([until, isEnded]));
    const lasted = clock.now() - begun;
    if (lasted - milliseconds > STOPPED_MS) stops++;
    return Math.min(lasted, milliseconds);
  }

  async function isAlive(): Promise<boolean> {
    let isAnswered = false;
    const answer = ask().then(() => void (isAnswered = true), () => isEnded);
    for (let silence = 0; !isAnswered && silence < SILENCE_MS && !ended.aborted;) {
      silence += await wait(INTERVAL_MS, answer);
    }
    return isAnswered;
  }

  for (let passed = 0;;) {
    const before = stops;
    if (passed < time) passed += await wait(Math.min(INTERVAL_MS, time - passed));
    else if (!mayEnd) await wait(INTERVAL_MS, permission);
    const isAnswered = await isAlive();
    if (ended.aborted) return "ended";
    if (!isAnswered) return "silent";
    if (stops > before && stops <= MOST_STOPS) passed = Math.min(passed, time - AFTER_STOP_MS);
    else if (passed >= time && mayEnd) return "passed";
  }
}
