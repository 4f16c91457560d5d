import type { CancellationToken, CancelReason } from "./token.ts";

/**
 * Calls back when a token is cancelled; right after the running code when it is cancelled already:
 * a signal may come while the part of the program that listens for it is still loaded.
 */
export function whenCancelled(
  { signal }: CancellationToken,
  handler: (reason: CancelReason) => void,
): void {
  const call = () => handler(signal.reason);
  if (signal.aborted) queueMicrotask(call);
  else signal.addEventListener("abort", call, { once: true });
}
