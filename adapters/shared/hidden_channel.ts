/**
 * Hides the channel to the predecessor from the program: the runtimes make it a part of `process`.
 * A program that ends when its parent disconnects, or that takes each message for one of its own,
 * would otherwise do so at a reload.
 */
import type { Endpoint, NodeProcess } from "./node_channel.ts";
import { putAside } from "./events_aside.ts";

/** The members that make the channel. A process without one has none of them. */
const MEMBERS = ["connected", "channel", "send", "disconnect"] as const;
/** The events of the channel. */
const EVENTS = ["message", "disconnect"] as const;
/**
 * The code of Node and Deno that works on the channel: it still has to find it. Bun's is native,
 * and does not look at these members.
 */
const RUNTIME = /^(node:|ext:\w+\/)internal\/child_process/;

type Method = (event: unknown, ...rest: unknown[]) => unknown;
type Stacks = { prepareStackTrace?: unknown; stackTraceLimit: number };

/**
 * How far down the runtime's own code may be that emits an event: source-map-support and others put
 * functions of theirs around `emit`.
 */
const EMITTERS = 10;

/** Whether a member of `process` is used by the runtime's own code. Called by the member. */
function isRuntime(name = ""): boolean {
  const stacks = Error as unknown as Stacks;
  const { prepareStackTrace, stackTraceLimit } = stacks;
  try {
    // This function, the member, and its caller.
    stacks.stackTraceLimit = name === "emit" ? EMITTERS : 3;
    stacks.prepareStackTrace = (_: unknown, frames: { getFileName(): string | null }[]) =>
      frames.slice(2).map((frame) => frame.getFileName() ?? "");
    return (new Error().stack as unknown as string[]).some((file) => RUNTIME.test(file));
  } finally {
    stacks.stackTraceLimit = stackTraceLimit;
    stacks.prepareStackTrace = prepareStackTrace;
  }
}

/** Hides the channel from the program. Returns it. */
export function hideChannel(process: NodeProcess): Endpoint {
  const members = process as unknown as Record<string, unknown>;
  const real = Object.fromEntries(MEMBERS.map((name) => [name, members[name]]));
  const native = Object.getOwnPropertyDescriptor(process, "connected")?.get?.bind(process);
  const { send, on } = process as unknown as Record<"send" | "on", Method>;
  const { EventEmitter } = process.getBuiltinModule("node:events");
  /** Has the program's listeners. Only the program itself can emit something here. */
  const emitter = new EventEmitter();
  for (const event of EVENTS) {
    putAside(process, event, { emitter, isExempt: isRuntime, emitsHere: true });
  }

  for (const name of MEMBERS) {
    let own: unknown;
    Object.defineProperty(process, name, {
      configurable: true,
      enumerable: false,
      get: () => isRuntime() ? real[name] : own,
      set(value) {
        if (isRuntime()) real[name] = value;
        else own = value;
      },
    });
  }

  return {
    get connected() {
      return (native?.() ?? real.connected) === true;
    },
    send: send.bind(process) as Endpoint["send"],
    on: (event, listener) => on.call(process, event, listener),
    // It comes once. `once` would call the `on` of above.
    once: (event, listener) => on.call(process, event, listener),
  };
}
