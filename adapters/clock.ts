import type { Clock } from "../core/adapter.ts";

/** Longer than any process lives between two wake-ups; an interval that long costs nothing. */
const LONG = 2 ** 31 - 1;

/** Time as every runtime has it. */
export const clock: Clock = {
  now: () => performance.now(),
  timer(milliseconds, callback) {
    const timer = setTimeout(callback, milliseconds);
    return () => clearTimeout(timer);
  },
  hold() {
    const interval = setInterval(() => {}, LONG);
    return () => clearInterval(interval);
  },
};
