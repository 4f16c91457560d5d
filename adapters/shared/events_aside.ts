/**
 * Events of `process` whose listeners are kept apart from those of the process: the program adds,
 * removes and counts them as ever.
 */
import type { EventEmitter } from "node:events";
import type { NodeProcess } from "./node_channel.ts";

/** The methods that take the name of an event. */
const METHODS = [
  "on",
  "addListener",
  "once",
  "prependListener",
  "prependOnceListener",
  "off",
  "removeListener",
  "listenerCount",
  "listeners",
  "rawListeners",
  "emit",
] as const;

/** Shared by all copies of this module: the methods are replaced once. */
const KEY = Symbol.for("@js0/reload-self events");

type Method = (event: unknown, ...rest: unknown[]) => unknown;
type Listener = (...args: unknown[]) => void;

/** An event that is kept apart. */
export interface EventAside {
  /** Has the program's listeners. */
  readonly emitter: EventEmitter;
  /** Whether the call of a method is not the program's. Called by the method. */
  isExempt?(method: string): boolean;
  /** Whether the program emits the event here, instead of at the process. */
  readonly emitsHere: boolean;
}

/** Moves the program's listeners of an event away, also those that it adds later. */
export function putAside(process: NodeProcess, event: string, aside: EventAside): void {
  const events = asideOf(process);
  const process_ = process as unknown as Record<"removeListener", Method>;
  for (const listener of process.rawListeners(event as "exit") as Listener[]) {
    process_.removeListener(event, listener);
    aside.emitter.on(event, listener);
  }
  events.set(event, aside);
}

/** Gives an event back: its listeners are those of the process again. */
export function giveBack(process: NodeProcess, event: string): void {
  const events = asideOf(process);
  const aside = events.get(event);
  if (aside === undefined) return;
  events.delete(event);
  for (const listener of aside.emitter.rawListeners(event) as Listener[]) {
    aside.emitter.removeListener(event, listener);
    process.on(event as "exit", listener);
  }
}

function asideOf(process: NodeProcess): Map<unknown, EventAside> {
  const known = process as unknown as { [KEY]?: Map<unknown, EventAside> };
  return known[KEY] ??= replaceMethods(process);
}

function replaceMethods(process: NodeProcess): Map<unknown, EventAside> {
  const events = new Map<unknown, EventAside>();
  const methods = process as unknown as Record<string, Method>;

  function replace(name: string, value: Method): void {
    Object.defineProperty(process, name, {
      configurable: true,
      enumerable: false,
      writable: true,
      value,
    });
  }
  for (const name of METHODS) {
    const method = methods[name] as Method;
    replace(name, (event, ...rest) => {
      const aside = events.get(event);
      if (aside === undefined || (name === "emit" && !aside.emitsHere) || aside.isExempt?.(name)) {
        return method.call(process, event, ...rest);
      }
      const { emitter } = aside;
      const result = (emitter as unknown as Record<string, Method>)[name]?.(event, ...rest);
      return result === emitter ? process : result;
    });
  }
  const removeAll = methods.removeAllListeners as Method;
  replace("removeAllListeners", (event) => {
    for (const each of event === undefined ? process.eventNames() : [event]) {
      if (!events.has(each)) removeAll.call(process, each);
    }
    for (const [each, { emitter }] of events) {
      if (event === undefined || event === each) emitter.removeAllListeners(each as string);
    }
    return process;
  });
  return events;
}
