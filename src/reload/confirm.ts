/**
 * A question to the namesake of a handover, which confirms that it has done what it was asked for.
 */
import type { Clock } from "../core/adapter.ts";
import { atMost } from "../core/pause.ts";
import type { Link } from "./handover.ts";

/**
 * Sends `{ [question]: true }` and waits for `{ [confirmation]: true }`, for `timeout` milliseconds
 * at most. Takes the receiver of the link.
 */
export async function ask(
  link: Link,
  clock: Clock,
  question: string,
  confirmation: string,
  timeout: number,
): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  link.onData((data) => {
    if (data[confirmation] === true) resolve();
  });
  await link.send({ [question]: true });
  await atMost(clock, timeout, promise);
}

/**
 * Does something when the namesake asks for it, and confirms it. Takes the receiver of the link.
 */
export function confirm(
  link: Link,
  question: string,
  confirmation: string,
  act: () => void | Promise<void>,
): void {
  link.onData(async (data) => {
    if (data[question] !== true) return;
    await act();
    // The old process is gone: nobody waits.
    await link.send({ [confirmation]: true }).catch(() => {});
  });
}
