/**
 * What counts as lost. A process that is killed takes with it what it alone had: the connections
 * that it served, what it had read, and, when nobody else has its listening sockets, those that try
 * to connect until the next process listens. That is nobody's fault, and is counted as "with a
 * killed process". Everything else that does not get its answer is lost.
 */

/**
 * Something that a client has sent and that has had no right answer. Times are those of
 * `performance.now()`, in milliseconds.
 */
export interface Failure {
  readonly client: string;
  readonly error: string;
  /** When the client began to connect, or to wait: for a datagram, when it was sent. */
  readonly begun: number;
  /**
   * The process that answered on this connection last, and when; `undefined` where none has yet.
   */
  readonly last: { readonly pid: number; readonly at: number } | undefined;
  readonly noticed: number;
}

/** A process of the program. */
export interface Served {
  /** When it was in charge. */
  readonly from: number;
  /** When it had handed over for good: it accepts nothing from then on. */
  until: number;
}

/**
 * A process that did not end by itself, between these times: one that is stopped, and killed for
 * that, is as good as dead from the stop on.
 */
export interface Death {
  readonly pid: number;
  readonly from: number;
  readonly to: number;
}

/** What was done to the program. */
export interface History {
  /** The processes that have been in charge. */
  readonly served: ReadonlyMap<number, Served>;
  readonly deaths: readonly Death[];
  /** From a death until the next process listens. */
  readonly gaps: readonly { readonly from: number; readonly to: number }[];
  /**
   * For so long a process had no file descriptors left, and its kernel or runtime turned away who
   * connected.
   */
  readonly shortages: readonly { readonly from: number; readonly to: number }[];
}

/**
 * What is answered just before a process dies is read just after: on a busy machine as late as
 * this, in milliseconds.
 */
const READ_LATE_MS = 1_000;

/** Whether it has to do with a process that was killed, or with one that had no descriptors. */
export function isExcused(
  { begun, last, noticed }: Failure,
  { served, deaths, gaps, shortages }: History,
): boolean {
  const since = (last?.at ?? begun) - READ_LATE_MS;
  const overlaps = ({ from, to }: { from: number; to: number }) => from <= noticed && to >= since;
  const mayHaveHad = (pid: number): boolean => {
    const one = served.get(pid);
    // A process that was not in charge yet has accepted nothing, and has been given nothing.
    if (one === undefined) return false;
    if (last === undefined) return one.until >= begun;
    return pid === last.pid || one.from > (served.get(last.pid)?.from ?? Infinity);
  };
  if (deaths.some((death) => overlaps(death) && mayHaveHad(death.pid))) return true;
  return last === undefined && [...gaps, ...shortages].some(overlaps);
}
