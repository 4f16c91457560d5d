/** The program that a preload begins with the first server. */
import type { AutoHost } from "../core/auto.ts";
import type { StartAdapter } from "../core/adapter.ts";
import { describeError } from "../core/describe_error.ts";
import type { Logger } from "../core/event.ts";
import type { ListenOptions } from "../core/options.ts";
import type { Token } from "../core/token.ts";
import type { Registry } from "../../adapters/registry.ts";
import { leaveWhenDrained } from "./leave.ts";
import { type AutoOptions, readOptions } from "./options.ts";

/** What the program needs of a runtime, besides its adapter. */
export interface AutoRuntime {
  /** A variable of the environment. */
  variable(name: string): string | undefined;
  /** Puts the program's handlers of these signals aside. */
  putAside(signals: readonly string[]): {
    count(signal: string): number;
    giveBack(signal: string): void;
  };
  isHandled(signal: string): boolean;
  emit(signal: string, number: number): void;
  exit(): void;
  holders(): readonly string[];
  unref(milliseconds: number, callback: () => void): void;
}

/** The way to the token, and what the patches get. */
export interface AutoProgram {
  readonly host: AutoHost;
  /** As that of the host. */
  begin(): Token;
}

const write = (pid: number, line: string) => console.error(`reload-self: process ${pid}: ${line}`);

function loggerOf(level: AutoOptions["level"]): Logger {
  const none = () => {};
  const log = (line: string) => console.error(line);
  return { info: level === "info" ? log : none, warn: level === "error" ? none : log, error: log };
}

/** Nothing has begun yet. */
export function createAutoProgram(
  registry: Registry,
  listen: (options?: ListenOptions) => Token,
  runtime: AutoRuntime,
): AutoProgram {
  const adapter: StartAdapter = registry.adapter;
  const { pid } = adapter;
  const said = new Set<string>();

  function say(line: string): void {
    if (said.has(line)) return;
    said.add(line);
    write(pid, line);
  }

  function begin(): Token {
    if (registry.listening !== undefined) return registry.listening.token; // The program's own, or begun before.
    try {
      return beginAuto();
    } catch (error) {
      write(pid, describeError(error));
      adapter.exit(1); // As a program ends whose own call of listen() throws.
      throw error;
    }
  }

  function beginAuto(): Token {
    const { listen: options, level } = readOptions(runtime.variable);
    const reloads = options.reloadSignals ?? adapter.reloadSignals;
    const shutdowns = [...options.shutdownSignals ?? adapter.shutdownSignals].reverse(); // SIGTERM before SIGINT.
    const aside = runtime.putAside([...reloads, ...shutdowns]); // The library's own are added to the process itself.
    const token = listen({
      ...options,
      logger: loggerOf(level),
      onEvent(event) {
        if (event.type !== "reload-begin" || event.cause.by !== "signal") return;
        const count = aside.count(event.cause.signal);
        if (count > 0) say(explainOthers(event.cause.signal, count));
      },
    });
    const { inside } = registry.listening as NonNullable<Registry["listening"]>;
    inside.isAuto = true;
    inside.ignored = (names) =>
      say(
        `listen() was called when a server was open already, and auto had begun: its ${names.join(", ")} is not looked at. ` +
          "Call it before the first server, or set the variables of docs/frameworks.md",
      );
    leaveWhenDrained(token, adapter, options.drainTimeout, {
      signals: shutdowns,
      giveBack() {
        for (const signal of shutdowns) {
          inside.release(signal);
          aside.giveBack(signal);
        }
      },
      isHandled: runtime.isHandled,
      emit: (signal) => runtime.emit(signal, adapter.signals[signal] ?? 0),
      raise: (signal) => adapter.raise?.(signal) ?? adapter.exit(128 + (adapter.signals[signal] ?? 0)),
      exit: runtime.exit,
      holders: runtime.holders,
      unref: runtime.unref,
      settled: inside.settled,
      say,
    });
    return token;
  }

  return {
    begin,
    host: {
      isSuccessor: adapter.isSuccessor,
      opensItself: !adapter.isSuccessor && !runtime.variable("LISTEN_FDS") &&
        !(Number(runtime.variable("RELOAD_SELF_INSTANCES")) > 1),
      begin,
      say,
    },
  };
}

function explainOthers(signal: string, count: number): string {
  const what = count === 1 ? "handler" : `${count} handlers`;
  return `${signal} reloads this program: its own ${what} of ${signal} ${count === 1 ? "is" : "are"} not called for it. ` +
    "Nest's `enableShutdownHooks()` and close-with-grace would close the server";
}
