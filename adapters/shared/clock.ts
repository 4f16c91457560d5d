import type { Clock } from "../../src/core/adapter.ts";
import { LONGEST_MS } from "../../src/core/check.ts";

/** The clock of every runtime. */
export const clock: Clock = {
  now: () => performance.now(),
  timer(milliseconds, callback) {
    const timer = setTimeout(callback, milliseconds);
    return () => clearTimeout(timer);
  },
  hold() {
    const interval = setInterval(() => {}, LONGEST_MS); // It only keeps the process alive.
    return () => clearInterval(interval);
  },
};
