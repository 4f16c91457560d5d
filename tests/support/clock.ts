import type { Clock } from "../../src/core/adapter.ts";

/** Time that passes when it is told to. */
export function createClock(): { readonly clock: Clock; advance(): void } {
  const timers = new Map<() => void, number>();
  let now = 0;
  const clock: Clock = {
    now: () => now,
    timer(milliseconds, callback) {
      timers.set(callback, now + milliseconds);
      return () => void timers.delete(callback);
    },
    hold: () => () => {},
  };
  return {
    clock,
    /** Calls the timer that is due next. */
    advance() {
      const [first] = [...timers].sort(([, a], [, b]) => a - b);
      if (first === undefined) return;
      timers.delete(first[0]);
      now = Math.max(now, first[1]);
      first[0]();
    },
  };
}
