import type { ReloadEvent } from "../core/event.ts";
import type { FromPredecessor } from "../protocol/reload.ts";
import type { Successor } from "../reload/outgoing.ts";

/** Passes a request that reached this process on to the process that is in charge after it. */
export async function passOn(
  { pid, send }: Successor,
  message: FromPredecessor & { type: "reload" | "shutdown" },
  emit: (event: ReloadEvent) => void,
): Promise<void> {
  try {
    await send(message);
    emit({ type: `${message.type}-pass-on`, pid });
  } catch {
    const what = message.type === "reload"
      ? "asked to reload"
      : `asked to shut down (${message.signal})`;
    emit({
      type: `${message.type}-ignore`,
      message:
        `${what}, but it handed over to pid ${pid}, which is gone too: ask the process in charge`,
    });
  }
}
