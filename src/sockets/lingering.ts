/** A process that has been replaced or told to end, and does neither leave nor say why: this says it. */
import type { ServiceAdapter } from "../core/service_adapter.ts";
import type { OwnSocket } from "../core/socket_adapter.ts";
import { whenCancelled } from "../core/when_cancelled.ts";
import type { ProgramContext } from "../reload/context.ts";

/** What it needs. */
export interface LingeringOptions {
  program: Pick<ProgramContext, "token" | "warn">;
  /** The listening sockets that nobody hands over. */
  unbound(): readonly OwnSocket[];
  /** What to write for such a socket. */
  advise(sockets: readonly OwnSocket[]): string;
  /** Takes the socket from its server. Returns whether that was possible. */
  stopListening: ((socket: OwnSocket) => boolean) | undefined;
  /** What keeps this process from ending, where the runtime shows it. */
  holders: ServiceAdapter["holders"] | undefined;
  /** Calls back again and again, without keeping the process alive. */
  every: ServiceAdapter["every"] | undefined;
}

/** How long after its last task a process that is cancelled may take to close its servers, in milliseconds. */
export const CLOSE_MS = 1_000;
/** How often a process says that it is still there, in milliseconds. */
export const REMIND_MS = 60_000;

/** Counts equal names: `3 Timeout, TCPSocketWrap`. */
export function countNames(names: readonly string[]): string {
  const counts = new Map<string, number>();
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  return [...counts].map(([name, count]) => count === 1 ? name : `${count} ${name}`).join(", ");
}

/** Follows the end of this process. */
export function followEnd(options: LingeringOptions): void {
  const { program: { token, warn }, unbound, advise, stopListening, holders, every } = options;

  whenCancelled(token, async (reason) => {
    await token.drained();
    const isReplaced = reason.kind === "reload";
    let stop: (() => void) | undefined = undefined;
    stop = every?.(CLOSE_MS, () => {
      stop?.();
      const sockets = unbound();
      if (sockets.length === 0) return;
      // Its clients would be served by what has been replaced, for as long as it lives.
      const isTaken = isReplaced &&
        sockets.map((socket) => stopListening?.(socket) === true).every(Boolean);
      warn(
        advise(sockets) +
          (isTaken ? `. It accepts nothing there any more: pid ${reason.pid} is in charge` : ""),
      );
    });
    let minutes = 0;
    every?.(REMIND_MS, () => {
      const since = `${++minutes} ${minutes === 1 ? "minute" : "minutes"} ago`;
      const what = countNames(holders?.() ?? []);
      warn(
        `it was ${isReplaced ? "replaced" : "told to end"} ${since}, is done with its work, and has not left. ` +
          (what === "" ? "Something keeps it: a timer, a connection, a server" : `What keeps it: ${what}`) +
          ". Close that after `await token.drained()`, or call `process.exit()`",
      );
    });
  });
}
