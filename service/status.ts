import type { Clock } from "../core/adapter.ts";
import { describeError } from "../core/error.ts";
import type { Link, Participant } from "../core/participant.ts";
import type { ErrorOutput, ServiceAdapter } from "../core/service_adapter.ts";
import type { CancellationToken } from "../core/token.ts";

/** How a reload ended. */
export interface ReloadOutcome {
  /** The how-manieth reload of its process it was, from 1 on. */
  number: number;
  /** How long it took. */
  milliseconds: number;
  /** The new process, when that is in charge. */
  pid?: number;
  /** Why it failed. */
  error?: string;
  /** The new process that failed, where one was started. */
  failed?: number;
  /** The last lines on stderr while it was under way, where that is a file. */
  output?: string[];
}

const STATES = ["starting", "serving", "reloading", "retired", "shutting down"] as const;
const LINES = 10;

/** What is found in a status file. */
export interface Status {
  version: 1;
  pid: number;
  /** When it was started, where the kernel tells: after it has been killed, its file is there and its pid may be another's. */
  startTime?: string | undefined;
  generation: number;
  runtime: string;
  /** When the process began to listen to signals, in milliseconds since 1970. */
  since: number;
  state: (typeof STATES)[number];
  /** What asks it to reload. */
  signal: string | undefined;
  /** How many reloads it has begun. */
  reloads: number;
  last?: ReloadOutcome | undefined;
  /** Where it came from: the process that it replaced, which may be gone before anybody has seen its last status. */
  from?: Origin | undefined;
}

/** The reload that a process came from. */
export interface Origin {
  pid: number;
  number: number;
  milliseconds: number;
}

const isPid = (value: unknown): value is number => Number.isSafeInteger(value) && Number(value) > 0 && Number(value) < 2 ** 31;
const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && Number(value) >= 0;
/** Text that is shown on a terminal, which control characters would make do what they say. */
// deno-lint-ignore no-control-regex
const printable = (value: unknown) => String(value).replace(/[\x00-\x1f\x7f-\x9f]/g, " ");

function parseOrigin(data: unknown): Origin | undefined {
  const { pid, number, milliseconds } = (data ?? {}) as Partial<Origin>;
  return isPid(pid) && isCount(number) && isCount(milliseconds) ? { pid, number, milliseconds } : undefined;
}

function parseOutcome(data: unknown): ReloadOutcome | undefined {
  const { number, milliseconds, pid, error, failed, output } = (data ?? {}) as Partial<ReloadOutcome>;
  if (!isCount(number) || !isCount(milliseconds)) return undefined;
  return {
    number,
    milliseconds,
    ...(isPid(pid) ? { pid } : { error: printable(error) }),
    ...(isPid(failed) && { failed }),
    ...(Array.isArray(output) && { output: output.slice(-LINES).map(printable) }),
  };
}

/** What is in a status file, or in that of `reload-self run`; `undefined` for anything else. */
export function parseStatus(
  text: string,
): Status | { pid: number; startTime?: string | undefined; supervises: number } | undefined {
  let data: Record<string, unknown>;
  try {
    data = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof data !== "object" || data === null || data.version !== 1 || !isPid(data.pid)) return undefined;
  const { pid, generation, since, signal, reloads, supervises } = data;
  const startTime = typeof data.startTime === "string" ? data.startTime : undefined;
  if (isPid(supervises)) return { pid, startTime, supervises };
  const state = STATES.find((state) => state === data.state);
  if (state === undefined || !isCount(generation) || !isCount(reloads) || !isCount(since)) return undefined;
  return {
    version: 1,
    pid,
    startTime,
    generation,
    runtime: printable(data.runtime),
    since,
    state,
    signal: typeof signal === "string" ? printable(signal) : undefined,
    reloads,
    last: parseOutcome(data.last),
    from: parseOrigin(data.from),
  };
}

/** What it takes to keep a status file. */
export interface StatusOptions {
  adapter: ServiceAdapter;
  clock: Clock;
  token: CancellationToken;
  pid: number;
  generation: number;
  runtime: string;
  /** What reloads it. */
  signal: string | undefined;
  hasPredecessor: boolean;
}

/** The name of the file in its folder. */
export function statusFile(pid: number): string {
  return `${pid}.json`;
}

/** Milliseconds between two looks whether a process has ended. */
const DYING = 100;

function lastLines(text: string): string[] {
  return text.trimEnd().split("\n").slice(-LINES);
}

/**
 * The participant that keeps a file for `reload-self status` and `reload-self reload`, in a folder that is its user's alone; or
 * `undefined` where there is no such folder. What fails later is nobody's harm but theirs.
 */
export function createStatus(options: StatusOptions): Participant | undefined {
  const { adapter, clock, token, pid, generation, runtime, signal, hasPredecessor } = options;
  const folder = adapter.ownFolder();
  if (folder === undefined) return undefined;
  const path = `${folder}/${statusFile(pid)}`;
  const files = adapter.files();
  const status: Status = {
    version: 1,
    pid,
    startTime: adapter.startTime(pid),
    generation,
    runtime,
    since: Date.now(),
    state: hasPredecessor ? "starting" : "serving",
    signal,
    reloads: 0,
  };
  let begun = 0;
  /** How long it took until the new process was in charge. */
  let inCharge = 0;
  let toSuccessor: Link | undefined;
  let predecessor: number | undefined;
  let output: ErrorOutput | undefined;

  function update(changes: Partial<Status>): void {
    Object.assign(status, changes);
    try {
      files.replace(path, JSON.stringify(status));
    } catch {
      // A full disk, a folder that was removed.
    }
  }

  /** Removes what a process that was killed could not remove. */
  function removeOf(other: number | undefined): void {
    if (other === undefined || adapter.isAlive(other)) return;
    try {
      for (const name of [statusFile(other), `${statusFile(other)}.${other}.new`]) files.remove(`${folder}/${name}`);
    } catch {
      // It names a process that is gone: a reader sees that.
    }
  }

  update({});
  adapter.onExit(() => {
    try {
      files.remove(path);
    } catch {
      // It names a process that is gone: whoever reads it sees that.
    }
  });
  token.signal.addEventListener("abort", () => {
    if (token.signal.reason.kind === "shutdown") update({ state: "shutting down" });
  });

  return {
    name: "the status file",
    inherit(link) {
      link.onData((data) => {
        const from = parseOrigin(data);
        if (from !== undefined) update({ from });
        const { predecessor: named } = data as { predecessor?: unknown };
        if (isPid(named)) predecessor = named;
      });
    },
    succeed(how) {
      update({ state: "serving" });
      if (how === "handed over") return;
      // Its channel closes a moment before the kernel has ended it.
      const stop = adapter.every(DYING, () => {
        if (predecessor !== undefined && adapter.isAlive(predecessor)) return;
        removeOf(predecessor);
        stop();
      });
    },
    offer(link) {
      toSuccessor = link;
      link.send({ predecessor: pid }).catch(() => {});
    },
    prepare() {
      begun = clock.now();
      output = adapter.errorOutput();
      status.reloads++;
    },
    started: () => update({ state: "reloading" }),
    handedOver() {
      inCharge = Math.round(clock.now() - begun);
      // Not waited for: the new process may be gone already.
      toSuccessor?.send({ pid, number: status.reloads, milliseconds: inCharge }).catch(() => {});
    },
    retire(_, context) {
      update({ state: "retired", last: { number: status.reloads, milliseconds: inCharge, pid: context.pid } });
    },
    rollback(reason) {
      const { pid: failed } = reason as { pid?: number };
      const text = output?.read() ?? "";
      update({
        state: token.isCancelled ? "shutting down" : "serving",
        last: {
          number: status.reloads,
          milliseconds: Math.round(clock.now() - begun),
          error: describeError(reason),
          failed,
          ...(text.trim() !== "" && { output: lastLines(text) }),
        },
      });
      removeOf(failed);
    },
  };
}
