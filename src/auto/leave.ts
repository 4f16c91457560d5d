/** The end of a process that a preload reloads: the program's own shutdown, after the drain. */
import type { Clock } from "../core/adapter.ts";
import { DEFAULT_DRAIN_TIMEOUT_MS } from "../core/options.ts";
import { pause } from "../core/pause.ts";
import type { Token } from "../core/token.ts";
import { whenCancelled } from "../core/when_cancelled.ts";

/** The process, as its end needs it. */
export interface Ending {
  /** The signals that shut down, the one that the program's shutdown is taken from first. */
  readonly signals: readonly string[];
  /** Gives the signals back to the program. */
  giveBack(): void;
  /** Whether the program handles a signal that was given back. */
  isHandled(signal: string): boolean;
  /** Has the program's handlers of a signal called. */
  emit(signal: string): void;
  /** Ends as a signal does that nobody handles. */
  raise(signal: string): void;
  /** Ends with the exit code that the program has set, or 0. */
  exit(): void;
  /** What keeps the process from ending. */
  holders(): readonly string[];
  /** Does not keep the process alive. */
  unref(milliseconds: number, callback: () => void): void;
  /** Resolves when the other processes know. */
  settled(): Promise<unknown>;
  say(line: string): void;
}

/**
 * How long a process that was replaced stays at least: signals that are on their way to it are
 * passed on.
 */
const LINGER_MS = 300;
/**
 * How long the last answers may take that nobody waits for: node:dgram looks up each address before
 * it sends.
 */
const LAST_SENDS_MS = 20;
/** How long the program's own shutdown may take at least. */
const SHUTDOWN_MS = 5_000;

/** Ends the process when its token is cancelled and what it had begun is done. */
export function leaveWhenDrained(
  token: Token,
  clock: Clock,
  drainTimeout: number | undefined,
  ending: Ending,
): void {
  const most = drainTimeout ?? DEFAULT_DRAIN_TIMEOUT_MS;

  whenCancelled(token, async (reason) => {
    const begun = clock.now();
    const isReplaced = reason.kind === "reload";
    const { running } = await token.drained({ timeout: most + SHUTDOWN_MS });
    const linger = isReplaced ? LINGER_MS - (clock.now() - begun) : 0;
    await pause(clock, Math.max(LAST_SENDS_MS, linger));
    await ending.settled();
    ending.giveBack();
    if (!isReplaced && reason.signal !== undefined) {
      // Now it means what it always did.
      return ending.isHandled(reason.signal)
        ? ending.emit(reason.signal)
        : ending.raise(reason.signal);
    }
    const signal = ending.signals.find(ending.isHandled);
    if (running.length > 0) {
      ending.say(
        `it leaves after ${most} ms (drainTimeout), with this under way: ${running.join(", ")}`,
      );
    }
    if (signal === undefined) return ending.exit();
    ending.unref(Math.max(SHUTDOWN_MS, most - (clock.now() - begun)), () => {
      const holders = ending.holders();
      const what = holders.length > 0 ? `: ${holders.join(", ")} kept it` : "";
      ending.say(`its handlers of ${signal} have not ended it in time, and it leaves${what}`);
      ending.exit();
    });
    ending.emit(signal);
  });
}
