import type { ListenOptions } from "../core/options.ts";

/** What decides when this process is ready. */
export interface ReadinessOptions {
  /** As the application asked for it. */
  ready: NonNullable<ListenOptions["ready"]>;
  /** Resolves when a process that does not decide by itself is ready; `undefined`: at once. */
  automatic: Promise<unknown> | undefined;
  /** Called once, when this process is ready. */
  onReady(): void;
  /**
   * Called when the application's promise rejects. When this rejects, the error is left to the
   * runtime.
   */
  onFail(error: unknown): Promise<void>;
}

/**
 * Calls back when this process is ready. The returned function makes it ready now; later calls do
 * nothing.
 */
export function awaitReadiness(
  { ready, automatic, onReady, onFail }: ReadinessOptions,
): () => void {
  let isReady = false;
  function becomeReady(): void {
    if (isReady) return;
    isReady = true;
    onReady();
  }
  if (ready === "auto") {
    if (automatic === undefined) becomeReady();
    else automatic.then(becomeReady);
  } else if (ready !== "manual") Promise.resolve(ready).then(becomeReady, onFail);
  return becomeReady;
}
