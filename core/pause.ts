import type { Clock } from "./adapter.ts";

/** Resolves after so many milliseconds. */
export function pause(clock: Clock, milliseconds: number): Promise<void> {
  return new Promise((resolve) => clock.timer(milliseconds, resolve));
}

/** Milliseconds between two looks at something: this part of the time that was waited already, within these. */
const LOOK = { least: 1, most: 50, part: 0.02 };

/** How long to wait before looking again at what somebody else does, when that was waited for since `begun`. */
export function untilNextLook(clock: Clock, begun: number): number {
  return Math.min(LOOK.most, Math.max(LOOK.least, (clock.now() - begun) * LOOK.part));
}

/** Waits for something that another process does, but not for ever: it may have died. */
export async function atMost(clock: Clock, milliseconds: number, work: Promise<unknown>): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const stop = clock.timer(milliseconds, resolve);
  await Promise.race([work, promise]);
  stop();
}
