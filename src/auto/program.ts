/** The program that a preload begins with the first server. */
import type { AutoHost } from "../core/auto.ts";
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

/** The registry, the function that begins a program, and what the runtime has. */
interface Parts {
  readonly registry: Registry;
  readonly listen: (options?: ListenOptions) => Token;
  readonly runtime: AutoRuntime;
  /** Writes a line for people, each only once. */
  say(line: string): void;
}

/** Nothing has begun yet. */
export function createAutoProgram(
  registry: Registry,
  listen: (options?: ListenOptions) => Token,
  runtime: AutoRuntime,
): AutoProgram {
  const { adapter } = registry;
  const { pid, isSuccessor } = adapter;
  const said = new Set<string>();

  function say(line: string): void {
    if (said.has(line)) return;
    said.add(line);
    if (adapter.writing === undefined) write(pid, line);
    else adapter.writing(() => write(pid, line));
  }

  function begin(): Token {
    // The program's own, or begun before.
    if (registry.listening !== undefined) return registry.listening.token;
    try {
      return beginAuto({ registry, listen, runtime, say });
    } catch (error) {
      write(pid, describeError(error));
      adapter.exit(1); // As a program ends whose own call of listen() throws.
      throw error;
    }
  }

  const isShared = Number(runtime.variable("RELOAD_SELF_INSTANCES")) > 1;
  const opensItself = !isSuccessor && !runtime.variable("LISTEN_FDS") && !isShared;
  return { begin, host: { isSuccessor, opensItself, begin, say } };
}

function beginAuto({ registry, listen, runtime, say }: Parts): Token {
  const { adapter } = registry;
  const { listen: options, level } = readOptions(runtime.variable);
  const reloads = options.reloadSignals ?? adapter.reloadSignals;
  // SIGTERM before SIGINT.
  const shutdowns = [...options.shutdownSignals ?? adapter.shutdownSignals].reverse();
  // The library's own are added to the process itself.
  const aside = runtime.putAside([...reloads, ...shutdowns]);
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
      `listen() was called when a server was open already, and auto had begun: its ${
        names.join(", ")
      } is not looked at. ` +
        "Call it before the first server, or set the variables of docs/frameworks.md",
    );
  // The thread that reloads ends the process.
  if (adapter.threads?.follow !== undefined) return token;
  const { isHandled, exit, holders, unref } = runtime;
  const numberOf = (signal: string) => adapter.signals[signal] ?? 0;
  leaveWhenDrained(token, adapter, options.drainTimeout, {
    signals: shutdowns,
    giveBack() {
      for (const signal of shutdowns) {
        inside.release(signal);
        aside.giveBack(signal);
      }
    },
    isHandled,
    emit: (signal) => runtime.emit(signal, numberOf(signal)),
    raise: (signal) => adapter.otherHandlers?.raise(signal) ?? adapter.exit(128 + numberOf(signal)),
    exit,
    holders,
    unref,
    settled: inside.settled,
    say,
  });
  return token;
}

function explainOthers(signal: string, count: number): string {
  const what = count === 1 ? "handler" : `${count} handlers`;
  return `${signal} reloads this program: its own ${what} of ${signal} ${
    count === 1 ? "is" : "are"
  } not called for it. ` +
    "Nest's `enableShutdownHooks()` and close-with-grace would close the server";
}
