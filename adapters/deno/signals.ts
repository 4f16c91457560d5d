/** Who else handles a signal, on Deno. */
import { originalOf } from "../../src/core/marks.ts";
import type { BasicAdapter } from "../../src/core/adapter.ts";
import { attempt } from "../../src/core/attempt.ts";
import type { NodeProcess } from "../shared/node_channel.ts";
import { createRaising, type Raising } from "../shared/signals.ts";
import type { DenoNamespace } from "./namespace.ts";
import type { Permissions } from "./permissions.ts";

/**
 * How long a signal of this process's own may take, in milliseconds: Deno's handler ends the
 * process in a thread of its own.
 */
const RAISE_MS = 1_000;

/**
 * The part of Deno's insides that is used here, as of 2.9. Where it is missing, nothing is known.
 */
interface Internals {
  core?: { resources?(): Record<number, string> };
  /** Whether Node's `process` was loaded. Its first use takes 20 ms. */
  __nodeProcessBootstrapped?: boolean;
}

/** The signals of a process on Deno. */
export type DenoSignals =
  & Required<Pick<BasicAdapter, "onSignal" | "otherHandlers">>
  & Pick<Raising, "onExit">;

/** The signals of this process. */
export function denoSignals(
  deno: DenoNamespace,
  { isGranted }: Pick<Permissions, "isGranted">,
  numbers: Readonly<Record<string, number>>,
): DenoSignals {
  const internals = () => attempt(() => deno[deno.internal] as Internals | undefined);
  /** How many signals have a listener. Deno does not tell which. */
  const countSignals = () =>
    attempt(() =>
      Object.values(internals()?.core?.resources?.() as object).filter((name) => name === "signal")
        .length
    );
  /** Whether others listened to a signal when this library's last subscription to it ended. */
  const handled = new Map<string, boolean>();
  const exit = (signal: string) => deno.exit(128 + (numbers[signal] ?? 0));
  const mayKill = () => deno.build.os !== "windows" && isGranted("run");
  const { onExit, raise } = createRaising(
    (handler) => (globalThis as unknown as EventTarget).addEventListener("unload", handler),
    (signal) => mayKill() && deno.kill(deno.pid, signal),
    (signal) => mayKill() ? void setTimeout(exit, RAISE_MS, signal) : exit(signal),
  );

  return {
    onSignal(signal, handler) {
      originalOf(deno.addSignalListener)(signal, handler); // A preload may put the program's aside.
      return () => {
        const before = countSignals();
        originalOf(deno.removeSignalListener)(signal, handler);
        const after = countSignals();
        handled.delete(signal);
        if (before !== undefined && after !== undefined) handled.set(signal, before === after);
      };
    },
    onExit,
    otherHandlers: {
      // Only those of `process.on()`, which servers for Node use.
      count(signal) {
        if (internals()?.__nodeProcessBootstrapped !== true) return undefined;
        const { process } = globalThis as unknown as { process: NodeProcess };
        return (Reflect.getPrototypeOf(process) as NodeProcess).listenerCount.call(process, signal);
      },
      isHandled: (signal) => handled.get(signal),
      raise,
    },
  };
}
