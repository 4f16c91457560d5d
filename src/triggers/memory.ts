/** Watching the size of a process. */
import { repeat } from "./timer.ts";

/** Milliseconds between two looks at the size. */
export const MEMORY_CHECK_MS = 2_000;
/** The least time between two reloads, by default. */
export const MEMORY_PAUSE_MS = 60_000;

/** What to watch. */
export interface MemoryOptions {
  /** The size of the process now; `undefined` where it is not known. */
  size(): number | undefined;
  /** The limit, in bytes. */
  most: number;
  /** The least time between two reloads, and after the start. */
  pause: number;
  /** Milliseconds between two looks. */
  interval: number;
  /** Called with a reason when the limit is exceeded. Resolves when something has come of it. */
  exceeded(why: string): Promise<void>;
}

const megabytes = (bytes: number) => `${Math.round(bytes / 2 ** 20)} MiB`;

/** Calls back when a process is too large. Returns a function that stops it. */
export function watchMemory({ size, most, pause, interval, exceeded }: MemoryOptions): () => void {
  let last = performance.now();
  return repeat(() => Math.max(interval, last + pause - performance.now()), async () => {
    const bytes = size();
    if (bytes === undefined || bytes <= most) return;
    await exceeded(`the process has ${megabytes(bytes)} in memory, more than ${megabytes(most)}`);
    last = performance.now();
  });
}
