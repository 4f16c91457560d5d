import type { Clock } from "../../src/core/adapter.ts";

/** The longest interval of the runtimes. It only keeps the process alive. */
const LONG = 2 ** 31 - 1;

/** The clock of every runtime. */
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
