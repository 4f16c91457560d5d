/** Points in time: each so many hours, or by a pattern of cron. */
import { Cron } from "croner";
import { describeError } from "../core/describe_error.ts";
import { parseTime } from "../core/units.ts";

/**
 * Milliseconds until the next time; asked again after each.
 *
 * @param when Milliseconds, a time such as `"24h"`, or a pattern of cron such as `"0 4 * * *"`, in
 * the time zone of the machine.
 * @throws {TypeError} When it is none of them, or will never be.
 */
export function createSchedule(name: string, when: unknown): () => number {
  const interval = parseTime(when);
  if (interval) return () => interval;
  let cron: Cron;
  try {
    cron = new Cron(String(when));
  } catch (error) {
    throw new TypeError(
      `${name} must be a time such as "24h", or a pattern of cron such as "0 4 * * *": ${
        describeError(error)
      }`,
    );
  }
  if (cron.msToNext() === null) throw new TypeError(`${name}: ${when} will never be`);
  return () => Math.max(1, cron.msToNext() ?? Infinity);
}
