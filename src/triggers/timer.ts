/** Timers that do not keep the process alive, however long they are. */
import { clearTimeout, setTimeout } from "node:timers";
import { LONGEST_MS } from "../core/check.ts";

/** Calls back once. Returns a function that stops it. */
export function after(milliseconds: number, callback: () => void): () => void {
  const part = Math.min(milliseconds, LONGEST_MS);
  let stop = () => clearTimeout(timer);
  const timer = setTimeout(() => {
    if (part === milliseconds) callback();
    else stop = after(milliseconds - part, callback);
  }, part);
  timer.unref();
  return () => stop();
}

/**
 * Calls back again and again: after each time that `next` returns. Returns a function that stops
 * it.
 */
export function repeat(next: () => number, callback: () => void | Promise<void>): () => void {
  let isStopped = false;
  let stop = () => {};
  const begin = () => {
    stop = after(next(), async () => {
      await callback();
      if (!isStopped) begin();
    });
  };
  begin();
  return () => {
    isStopped = true;
    stop();
  };
}
