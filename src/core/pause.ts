import type { Clock } from "./adapter.ts";

/** Resolves after so many milliseconds. */
export function pause(clock: Clock, milliseconds: number): Promise<void> {
  return new Promise((resolve) => clock.timer(milliseconds, resolve));
}

/**
 * A timer that is later than this belongs to a process that was stopped: SIGSTOP, a container that
 * was frozen, a machine that slept.
 */
export const STOPPED_MS = 500;

/** The shortest and the longest pause between two checks, in milliseconds. */
const MIN_PAUSE_MS = 1;
const MAX_PAUSE_MS = 50;
/** A pause between those is this part of the time that was waited already. */
const PAUSE_PART = 0.02;

/** Milliseconds until another process should be checked again, when the wait began at `begun`. */
export function nextCheck(clock: Clock, begun: number): number {
  return Math.min(MAX_PAUSE_MS, Math.max(MIN_PAUSE_MS, (clock.now() - begun) * PAUSE_PART));
}

/** Waits for the work of another process, with a timeout: that process may have died. */
export async function atMost(
  clock: Clock,
  milliseconds: number,
  work: Promise<unknown>,
): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const stop = clock.timer(milliseconds, resolve);
  await Promise.race([work, promise]);
  stop();
}
