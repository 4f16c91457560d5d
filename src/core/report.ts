import type { BasicAdapter } from "./adapter.ts";
import { describeError, describeExit } from "./describe_error.ts";
import type { ReloadErrorCode } from "./error.ts";
import type { Logger, ReloadCause, ReloadEvent } from "./event.ts";

/** The logger of an application that has none: failures must not get lost. */
const STDERR: Logger = {
  info: () => {},
  warn: () => {},
  error: (line) => console.error(line),
};

/** What to do about a failed reload. */
const ADVICE: Partial<Record<ReloadErrorCode, string>> = {
  timeout: "It was killed. Make it ready earlier, or raise readyTimeout.",
  silent: "It was killed. Does it compute without a pause?",
  check: "What it had begun to answer it has finished, for ten seconds at most.",
  protocol:
    "It was killed. Does it call listen() of @js0/reload-self before it uses process.send()?",
  refused: "It was killed.",
};

/**
 * Some frameworks end with 0 when they cannot listen: Express 5 hands the error to the callback of
 * `listen`, and prints nothing.
 */
function adviceForExit(code: number | null | undefined): string {
  return code === 0
    ? "With code 0 it had nothing more to do, or was told to end: does it listen, and does it ignore an error of that?"
    : "What it wrote to stderr says why.";
}

/** Reports events to the application and its log. An error that one of them throws does no harm. */
export function createReporter(
  { pid, writing = (write) => write() }: Pick<BasicAdapter, "pid" | "writing">,
  isCancelled: () => boolean,
  { logger = STDERR, onEvent }: { logger?: Logger; onEvent?: (event: ReloadEvent) => void },
): (event: ReloadEvent) => void {
  function log(level: keyof Logger, line: string): void {
    try {
      writing(() => logger[level](`reload-self: process ${pid}: ${line}`));
    } catch {
      // A log that fails is no reason for a server to fail.
    }
  }

  return (event) => {
    const entry = describe(pid, isCancelled(), event);
    if (entry !== undefined) log(...entry);
    try {
      onEvent?.(event);
    } catch (error) {
      log("error", `onEvent threw on ${event.type}: ${describeError(error)}`);
    }
  };
}

type Line = [keyof Logger, string];

const info = (text: string): Line => ["info", text];
const error = (text: string): Line => ["error", text];

/** Whether a process ended as one does that is asked to: by itself, or by the signal. */
function isShutdown(exitCode: number | null, exitSignal: string | null): boolean {
  return exitCode === 0 || ["SIGTERM", "SIGINT"].includes(exitSignal ?? "");
}

function describe(pid: number, isCancelled: boolean, event: ReloadEvent): Line | undefined {
  switch (event.type) {
    case "reload-begin":
      return info(`reload begins (${asker(event.cause)})`);
    case "reload-later":
      return info(
        `a reload is asked for (${asker(event.cause)}); it comes after the one under way`,
      );
    case "reload-end": {
      const milliseconds = Math.round(event.milliseconds);
      return info(`reload done in ${milliseconds} ms: pid ${event.pid} is in charge`);
    }
    case "reload-fail":
      return describeFailure(pid, isCancelled, event);
    case "successor-exit": {
      const how = describeExit(event.exitCode, event.exitSignal);
      return isShutdown(event.exitCode, event.exitSignal)
        ? info(`process ${event.pid}, which had taken over, ${how}: the program has ended`)
        : error(
          `process ${event.pid}, which had taken over, ${how}: nothing is in charge. Start the program again`,
        );
    }
    case "shutdown-pass-on":
      return info(`the shutdown is passed on to pid ${event.pid}`);
    case "shutdown-ignore":
      return ["warn", event.message];
    case "rollback-fail": {
      const why = describeError(event.error);
      return error(`${event.handover} could not undo its part of a failed reload: ${why}`);
    }
    case "reload-pass-on":
      return info(`a reload is passed on to pid ${event.pid}`);
    case "reload-ignore":
    case "warning":
      return error(event.message);
    case "in-charge": {
      const how = event.predecessor === "gone" ? "is gone" : "has handed over";
      return info(`in charge as generation ${event.generation}: the predecessor ${how}`);
    }
    case "connections-move":
      return info(describeMove(event));
    case "drain-cut":
      return ["warn", describeCut(event)];
    case "task-fail":
      return ["warn", `${event.name} failed: ${describeError(event.error)}`];
    default:
      return undefined;
  }
}

type EventOf<Type extends ReloadEvent["type"]> = Extract<ReloadEvent, { type: Type }>;

function describeFailure(
  pid: number,
  isCancelled: boolean,
  { error: { code, exitCode, message }, wasInCharge }: EventOf<"reload-fail">,
): Line {
  const advice = code === "exit" ? adviceForExit(exitCode) : ADVICE[code];
  const after = isCancelled
    ? "shuts down"
    : wasInCharge
    ? "is in charge again"
    : "goes on unchanged";
  return [
    isCancelled && code === "cancelled" ? "info" : "error",
    `reload failed: ${message}. Process ${pid} ${after}.${
      advice === undefined ? "" : ` ${advice}`
    }`,
  ];
}

function describeMove({ moved, left, pid, milliseconds }: EventOf<"connections-move">): string {
  const what = moved === 1 ? "connection" : "connections";
  const rest = left === 0
    ? ""
    : `; ${left} could not be moved, and ${left === 1 ? "is" : "are"} drained here`;
  return `${moved} ${what} moved to pid ${pid} in ${Math.round(milliseconds)} ms${rest}`;
}

function describeCut({ connections, server, milliseconds }: EventOf<"drain-cut">): string {
  const [what, were] = connections === 1 ? ["connection", "was"] : ["connections", "were"];
  return `${connections} ${what} of ${server} had not ended after ` +
    `${milliseconds} ms (drainTimeout) and ${were} cut`;
}

function asker(cause: ReloadCause): string {
  switch (cause.by) {
    case "signal":
      return cause.signal;
    case "call":
      return "token.reload()";
    case "predecessor":
      return "passed on by the predecessor";
  }
}
