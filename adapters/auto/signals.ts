/**
 * Puts the program's handlers of signals aside: what they do, such as closing the server, comes after the drain. A signal that the program
 * emits itself is one that it gets.
 */
import type { NodeProcess } from "../shared/node_channel.ts";
import { giveBack, putAside } from "../shared/events_aside.ts";

/** The handlers that were put aside. */
export interface SignalsAside {
  /** How many handlers a signal has. */
  count(signal: string): number;
  /** Gives a signal back to the program: its handlers are those of the process again. */
  giveBack(signal: string): void;
}

/** Puts the handlers of these signals aside, also those that are added later. */
export function putSignalsAside(process: NodeProcess, signals: readonly string[]): SignalsAside {
  const emitter = new (process.getBuiltinModule("node:events").EventEmitter)();
  emitter.setMaxListeners(0);
  for (const signal of signals) putAside(process, signal, { emitter, emitsHere: false });
  return {
    count: (signal) => emitter.listenerCount(signal),
    giveBack: (signal) => giveBack(process, signal),
  };
}
