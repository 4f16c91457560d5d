/**
 * Reloads that something other than an operator asks for: one that fails is tried again later, and
 * ends nothing.
 */
import { showTime } from "../core/units.ts";
import { after } from "./timer.ts";

/** The pause after the first failure. Each further one doubles it, up to the longest. */
const FIRST_PAUSE_MS = 5_000;
const MAX_PAUSE_MS = 600_000;

/** What the attempts need. */
export interface AttemptsOptions {
  /** Reloads. Rejects when that fails. */
  reload(): Promise<unknown>;
  /**
   * Whether a failure means that no attempt can succeed any more: the process shuts down, or has a
   * successor.
   */
  isFinal(error: unknown): boolean;
  /** Writes a line for people. */
  log(line: string): void;
  /** The timer, for tests. */
  wait?: typeof after;
}

/** The attempts to reload. */
export interface Attempts {
  /**
   * Reloads, and, when that fails, again and again. While an attempt is under way, one more follows
   * it.
   *
   * @param why For people: `app.js has changed`.
   * @param isNews Whether the next attempt may succeed because of it: then it does not wait for the
   * pause to end.
   */
  begin(why: string, isNews?: boolean): Promise<void>;
  /** Begins no attempt any more. */
  stop(): void;
}

/** No attempt yet. */
export function createAttempts({ reload, isFinal, log, wait = after }: AttemptsOptions): Attempts {
  let isStopped = false;
  let failures = 0;
  let underWay: Promise<void> | undefined;
  let isAskedAgain = false;
  let stopRetry: (() => void) | undefined;

  async function attempt(why: string): Promise<void> {
    log(`${why}: reloading`);
    try {
      await reload();
      failures = 0;
    } catch (error) {
      if (isFinal(error)) return stop();
      if (isStopped) return;
      const pause = Math.min(MAX_PAUSE_MS, FIRST_PAUSE_MS * 2 ** failures++);
      log(`that reload has failed: it is tried again in ${showTime(pause)}`);
      stopRetry = wait(pause, () => void begin(why, true));
    }
  }

  async function begin(why: string, isNews = false): Promise<void> {
    if (isStopped || (stopRetry !== undefined && !isNews)) return;
    if (underWay !== undefined) {
      isAskedAgain = true;
      return await underWay;
    }
    stopRetry?.();
    stopRetry = undefined;
    underWay = attempt(why);
    await underWay;
    underWay = undefined;
    if (!isAskedAgain) return;
    isAskedAgain = false;
    await begin(why, isNews);
  }

  function stop(): void {
    isStopped = true;
    stopRetry?.();
  }

  return { begin, stop };
}
