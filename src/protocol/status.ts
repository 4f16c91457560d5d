/** What a status file contains: the source of `reload-self status` and `reload-self reload`. */

/** The outcome of a reload. */
export interface ReloadOutcome {
  /** Counts the reloads of this process, from 1 on. */
  number: number;
  /** How long it took. */
  milliseconds: number;
  /** The new process, when it is in charge. */
  pid?: number;
  /** Why it failed. */
  error?: string;
  /** The new process that failed, where one was started. */
  failed?: number;
  /** The last lines on stderr while it was under way, where stderr is a file. */
  output?: string[];
}

/** The reload that a process came from. */
export interface Origin {
  /** The predecessor. */
  pid: number;
  number: number;
  milliseconds: number;
}

const STATES = ["starting", "serving", "reloading", "retired", "shutting down"] as const;
/** The most lines of output that are kept, and shown. */
export const MAX_LINES = 30;

/** The content of a status file. */
export interface Status {
  version: 1;
  pid: number;
  /**
   * When the process started, where the kernel shows it: the file of a killed process outlives it,
   * and the pid may be reused.
   */
  startTime?: string | undefined;
  generation: number;
  runtime: string;
  /** When the process called listen(), in milliseconds since 1970. */
  since: number;
  state: (typeof STATES)[number];
  /** The signal that reloads it. */
  signal: string | undefined;
  /** How many reloads it has begun. */
  reloads: number;
  last?: ReloadOutcome | undefined;
  /** The predecessor may be gone before anybody has read its last status. */
  from?: Origin | undefined;
}

/** The content of the status file of `reload-self run`. */
export interface SupervisorStatus {
  version: 1;
  pid: number;
  startTime?: string | undefined;
  /** The process in charge. */
  supervises: number;
}

/** The name of a status file in its folder. */
export function statusFile(pid: number): string {
  return `${pid}.json`;
}

/** The lines that are kept of an output. */
export function lastLines(text: string): string[] {
  return text.trimEnd().split("\n").slice(-MAX_LINES);
}

const isPid = (value: unknown): value is number =>
  Number.isSafeInteger(value) && Number(value) > 0 && Number(value) < 2 ** 31;
const isCount = (value: unknown): value is number =>
  Number.isSafeInteger(value) && Number(value) >= 0;
/** A text that is shown on a terminal, which would obey control characters. */
const printable = (value: unknown) =>
  // deno-lint-ignore no-control-regex
  typeof value === "string" ? value.replace(/[\x00-\x1f\x7f-\x9f]/g, " ") : "unknown";

/** The reload that a process came from, or `undefined` for anything else. */
export function parseOrigin(data: unknown): Origin | undefined {
  const { pid, number, milliseconds } = (data ?? {}) as Partial<Origin>;
  return isPid(pid) && isCount(number) && isCount(milliseconds)
    ? { pid, number, milliseconds }
    : undefined;
}

function parseOutcome(data: unknown): ReloadOutcome | undefined {
  const { number, milliseconds, pid, error, failed, output } = (data ?? {}) as Partial<
    ReloadOutcome
  >;
  if (!isCount(number) || !isCount(milliseconds)) return undefined;
  return {
    number,
    milliseconds,
    ...(isPid(pid) ? { pid } : { error: printable(error) }),
    ...(isPid(failed) && { failed }),
    ...(Array.isArray(output) && { output: output.slice(-MAX_LINES).map(printable) }),
  };
}

/**
 * Parses a status file. `undefined` for anything else: its user may have written anything into it.
 */
export function parseStatus(text: string): Status | SupervisorStatus | undefined {
  let data: Record<string, unknown>;
  try {
    data = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof data !== "object" || data === null || data.version !== 1 || !isPid(data.pid)) {
    return undefined;
  }
  const { pid, generation, since, signal, reloads, supervises } = data;
  const startTime = typeof data.startTime === "string" ? data.startTime : undefined;
  if (isPid(supervises)) return { version: 1, pid, startTime, supervises };
  const state = STATES.find((state) => state === data.state);
  if (state === undefined || !isCount(generation) || !isCount(reloads) || !isCount(since)) {
    return undefined;
  }
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
