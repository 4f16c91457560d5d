import { setTimeout as delay } from "node:timers/promises";
import { numberOf } from "./number_of.ts";

/** How long a condition may take; a machine that is busy with other tests is slow. */
const PATIENCE = numberOf("PATIENCE", 60_000);

/**
 * Waits until a condition holds, and returns what it found. For what gives no notice: the state of
 * other processes.
 */
export async function until<T>(
  what: string,
  look: () => T | undefined | false | Promise<T | undefined | false>,
): Promise<T> {
  const deadline = performance.now() + PATIENCE;
  for (;;) {
    const found = await look();
    if (found !== undefined && found !== false) return found;
    if (performance.now() > deadline) throw new Error(`waited in vain for: ${what}`);
    await delay(5);
  }
}
