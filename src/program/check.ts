/** The check of a new version: whether it answers as it should, once it is in charge. */
import { describeError } from "../core/describe_error.ts";
import type { Clock } from "../core/adapter.ts";
import { DEFAULT_CHECK_TIMEOUT_MS, type ListenOptions } from "../core/options.ts";
import type { CheckOrder } from "../core/service_adapter.ts";

/** A check: an address that has to answer, or a function that has to return. */
type Check = NonNullable<ListenOptions["check"]>;

/**
 * Makes the checks that the application and `reload-self run` ask for, all at the same time.
 * Resolves with what is wrong, if something is. `undefined` where nobody asks for one.
 *
 * @param cancelled Ends them: a process that shuts down is not judged.
 */
export function createCheck(
  clock: Clock,
  { check, checkTimeout = DEFAULT_CHECK_TIMEOUT_MS }: Pick<ListenOptions, "check" | "checkTimeout">,
  order: CheckOrder | undefined,
  cancelled: AbortSignal,
): (() => Promise<string | undefined>) | undefined {
  const checks = [
    ...(check === undefined ? [] : [() => perform(clock, check, checkTimeout, cancelled)]),
    ...(order === undefined ? [] : [() => perform(clock, order.url, order.timeout, cancelled)]),
  ];
  if (checks.length === 0) return undefined;
  return async () => {
    const outcomes = await Promise.all(checks.map((perform) => perform()));
    return outcomes.find((outcome) => outcome !== undefined);
  };
}

/** Resolves with what is wrong, if something is. */
async function perform(
  clock: Clock,
  check: Check,
  timeout: number,
  cancelled: AbortSignal,
): Promise<string | undefined> {
  const over = new AbortController();
  const late = Promise.withResolvers<string | undefined>();
  const giveUp = () => late.resolve(undefined);
  cancelled.addEventListener("abort", giveUp);
  const stop = clock.timer(timeout, () => {
    const what = typeof check === "string" ? `${check} has not answered` : "it has not ended";
    late.resolve(`${what} within ${timeout} ms (checkTimeout)`);
    over.abort();
  });
  try {
    return await Promise.race([late.promise, outcomeOf(check, over.signal)]);
  } finally {
    stop();
    cancelled.removeEventListener("abort", giveUp);
    over.abort();
  }
}

async function outcomeOf(check: Check, signal: AbortSignal): Promise<string | undefined> {
  try {
    if (typeof check === "string") return judge(check, await askFor(check, signal));
    const result = await check(signal);
    if (result instanceof Response) return judge(result.url || "it", result.status);
    return result === false ? "it returned false" : undefined;
  } catch (error) {
    return typeof check === "string"
      ? `${check} does not answer: ${describeError(error)}`
      : describeError(error);
  }
}

function judge(what: string, status: number): string | undefined {
  return status >= 200 && status < 400 ? undefined : `${what} answered ${status}`;
}

/**
 * Sends a request on a connection of its own, and returns the status of the answer. A redirection
 * is not followed, and a certificate is not checked: it has the name by which clients call this
 * server, which is not the address in the check.
 */
async function askFor(url: string, signal: AbortSignal): Promise<number> {
  const { request } = url.startsWith("https:")
    ? await import("node:https")
    : await import("node:http");
  return await new Promise((resolve, reject) => {
    const asked = request(
      url,
      { agent: false, rejectUnauthorized: false, signal, headers: { connection: "close" } },
      (response) => {
        response.resume();
        resolve(response.statusCode ?? 0);
      },
    );
    asked.on("error", reject);
    asked.end();
  });
}
