import type { Adapter, Channel, StartedProcess, StartRequest } from "./adapter.ts";
import { describeError, ReloadError, type ReloadErrorCode, type ReloadErrorDetails } from "./error.ts";
import type { ReloadEvent } from "./event.ts";
import { createMailbox } from "./mailbox.ts";
import { type FromPredecessor, type FromSuccessor, pack, parseFromSuccessor } from "./messages.ts";
import type { Link, Participant, ReloadContext } from "./participant.ts";

/** What one reload needs. */
export interface TransactionOptions {
  adapter: Adapter;
  participants: readonly Participant[];
  /** What to start, but for what only the transaction knows. */
  request: Omit<StartRequest, "signal" | "sendsSockets">;
  /** Milliseconds from the beginning until the new process must be in charge. */
  readyTimeout: number;
  /** Milliseconds for which a new process that is in charge may still fail. Asked for when it is. */
  probation(): number;
  emit(event: ReloadEvent): void;
}

/** A process that what reaches this one is passed on to. */
export interface Heir {
  readonly pid: number;
  readonly channel: Channel;
}

/** The successor that a reload has put in charge. */
export interface Successor extends Heir {
  readonly generation: number;
  /** How long it took until it was in charge. */
  readonly milliseconds: number;
  /** What the participants are told. */
  readonly context: ReloadContext;
  /** From now on it does not keep this process alive. */
  release(): void;
}

/** One reload, under way. */
export interface Transaction {
  /**
   * Resolves when the successor has been in charge for the time of its probation; rejects with a ReloadError when everything is rolled
   * back.
   */
  readonly outcome: Promise<Successor>;
  /** Was the successor in charge? */
  readonly wasInCharge: boolean;
  /** The new process, when it has been told to take charge: what is asked of this process is its business, too. */
  readonly heir: Heir | undefined;
  /** This process shuts down: gives the reload up, or, where the new process was told to take charge, its probation. */
  abort(error: ReloadError): void;
}

/** How long to wait for the kernel to end a process that was killed; it may hang in a dead network file system. */
const REAP_TIMEOUT = 5_000;
/**
 * How long what has already happened may take to be noticed. Most exits are seen first as a closed channel, and only then with
 * their status. And a process that was frozen sees that its timers are over before it reads what came in the meantime.
 */
const NOTICE_TIMEOUT = 1_000;

/**
 * The two-phase commit, seen from the old process: prepare, start the new process, offer, wait until it is ready, commit, and
 * wait until it says that it is in charge. Then it is on probation: many a new version fails at its first request. Only after that is
 * it safe to leave: when a new process dies before, this one takes charge again.
 */
export function beginTransaction(options: TransactionOptions): Transaction {
  const { adapter, participants, request, readyTimeout, emit } = options;
  const { generation } = request;
  const failure = Promise.withResolvers<never>();
  const failed = new AbortController();
  const asked: Participant[] = [];
  let child: StartedProcess | undefined;
  /** What it says itself: a wrapper may have been started in its place. */
  let childPid: number | undefined;
  let committed = false;
  let over = false;
  const begun = adapter.now();
  let inCharge: Successor | undefined;
  /** Was the new process asked to end? Then its end is no failure. */
  let isStopping = false;
  const probationOver = Promise.withResolvers<void>();
  const context: ReloadContext = {
    signal: failed.signal,
    generation,
    get pid() {
      return childPid ?? child?.pid;
    },
    disown: async () => await child?.disown?.() ?? false,
  };

  function fail(error: ReloadError): void {
    if (over) return;
    over = true;
    // At once: the application may end this process before anything that is awaited here goes on.
    child?.kill();
    for (const participant of inCharge === undefined ? participants : []) {
      const more = participant.explain?.(error.code);
      if (more !== undefined) error.message += `; ${more}`;
    }
    failure.reject(error);
    failed.abort(error);
  }

  function error(code: ReloadErrorCode, what: string, details: ReloadErrorDetails = {}): ReloadError {
    const { pid } = context;
    const who = pid === undefined ? "the new process" : `the new process (pid ${pid})`;
    return new ReloadError(code, `${who} ${what}`, { ...details, pid });
  }

  /** Waits for a step; rejects as soon as the reload fails. */
  function step<T>(work: Promise<T>): Promise<T> {
    return Promise.race([work, failure.promise]);
  }

  /** Lets every participant take the same step, one after the other. */
  async function everyone(name: string, take: (participant: Participant) => void | Promise<void>): Promise<void> {
    for (const participant of participants) {
      try {
        await step((async () => await take(participant))());
      } catch (cause) {
        const message = `${participant.name} could not ${name}: ${describeError(cause)}`;
        throw new ReloadError("participant", message, { cause, pid: context.pid });
      }
    }
  }

  async function run(): Promise<Successor> {
    const overdue = () => fail(error("timeout", `was not in charge within ${readyTimeout} ms`));
    let stopTimer = adapter.timer(readyTimeout, () => {
      // Once told to take over, it may have done so: its answer is looked for once more, before it is killed.
      if (committed) stopTimer = adapter.timer(NOTICE_TIMEOUT, overdue);
      else overdue();
    });
    let starting: Promise<StartedProcess> | undefined;
    try {
      failed.signal.throwIfAborted();
      await everyone("prepare", (participant) => {
        asked.push(participant);
        return participant.prepare?.(context);
      });
      const sendsSockets = participants.some((participant) => participant.sendsSockets?.());
      starting = adapter.start({ ...request, sendsSockets, signal: failed.signal });
      child = await step(starting);
      const { channel } = child;
      emit({ type: "successor-start", pid: child.pid, generation });
      const dialogue = follow(child);
      await everyone("go on", (participant) => participant.started?.(context));
      const pid = childPid = await step(dialogue.hello);
      await everyone("offer", (participant) => participant.offer?.(dialogue.link(participant), context));
      await step(dialogue.offered());
      await step(dialogue.ready);
      emit({ type: "successor-ready", pid, generation });
      await everyone("agree", (participant) => participant.agree?.(context));
      await everyone("commit", (participant) => participant.commit?.(context));
      await step(dialogue.commit());
      stopTimer();
      const { release } = child;
      await serveProbation({ pid, generation, channel, context, release, milliseconds: adapter.now() - begun });
      over = true;
      return inCharge as unknown as Successor;
    } catch (cause) {
      fail(cause instanceof ReloadError ? cause : error("start", `could not be started: ${describeError(cause)}`, { cause }));
      // What failed first is the reason; what a step threw when it was told to stop is not.
      const reason: ReloadError = failed.signal.reason;
      await rollBack(starting, reason);
      throw reason;
    } finally {
      stopTimer();
    }
  }

  /** Rejects when the new process fails while this one can still take charge again. */
  async function serveProbation(successor: Successor): Promise<void> {
    const { pid, milliseconds } = successor;
    inCharge = successor;
    emit({ type: "successor-in-charge", pid, generation, milliseconds });
    await leave(participants, (participant) => participant.handedOver?.(context), emit);
    const probation = options.probation();
    if (probation === 0) return;
    const stop = adapter.timer(probation, probationOver.resolve);
    try {
      await step(probationOver.promise);
    } finally {
      stop();
    }
  }

  /** Follows what the new process says, and whether it lives. */
  function follow({ channel, exited }: StartedProcess) {
    const hello = Promise.withResolvers<number>();
    const ready = Promise.withResolvers<void>();
    const took = Promise.withResolvers<void>();
    const inboxes = new Map(participants.map(({ name }) => [name, createMailbox<[data: unknown, handle?: unknown]>()]));
    let expected: "hello" | "ready" | "in-charge" | "nothing" = "hello";

    function hear(message: FromSuccessor | undefined, handle: unknown): void {
      if (message?.type === "alive") return;
      if (message?.type === "failed") {
        fail(error("refused", `cannot become ready: ${message.message}`));
      } else if (message?.type === "data" && expected !== "hello" && inboxes.has(message.name)) {
        inboxes.get(message.name)?.put(message.data, handle);
      } else if (message?.type === "hello" && expected === "hello") {
        expected = "ready";
        hello.resolve(message.pid);
      } else if (message?.type === "ready" && expected === "ready") {
        expected = "nothing";
        ready.resolve();
      } else if (message?.type === "in-charge" && expected === "in-charge") {
        expected = "nothing";
        took.resolve();
      } else if (!committed) {
        fail(error("protocol", "said something that is not understood"));
      }
    }

    /** What cannot be sent has no receiver any more; whoever watches the process knows the better reason. */
    function tell(message: FromPredecessor, handle?: unknown): Promise<void> {
      return channel.send(pack(message), handle).catch((error) => {
        if (error instanceof ReloadError) throw error;
        return failure.promise;
      });
    }

    channel.onMessage((raw, handle) => {
      const message = parseFromSuccessor(raw);
      if (message?.type === "stopping" && inCharge !== undefined) {
        isStopping = true;
        probationOver.resolve();
      } else if (over) {
        // What the participants still have to say to each other while this process retires.
        if (message?.type === "data") inboxes.get(message.name)?.put(message.data, handle);
      } else hear(message, handle);
    });
    channel.onClose(() => {
      if (over) return;
      const stop = adapter.timer(NOTICE_TIMEOUT, () => fail(error("protocol", "closed its channel to this one")));
      failed.signal.addEventListener("abort", stop);
    });
    exited.then(({ code, signal }) => {
      if (inCharge !== undefined && isStopping) return;
      if (over && !failed.signal.aborted && (code ?? signal ?? 0) !== 0) {
        return emit({ type: "successor-exit", pid: context.pid as number, exitCode: code, exitSignal: signal });
      }
      const how = signal === null ? `exited with code ${code}` : `was ended by ${signal}`;
      const since = inCharge === undefined ? undefined : Math.round(adapter.now() - begun - inCharge.milliseconds);
      const when = since === undefined ? "before it was in charge" : `${since} ms after it was in charge`;
      fail(error("exit", `${how} ${when}`, { exitCode: code, exitSignal: signal }));
    });

    return {
      hello: hello.promise,
      offered: () => tell({ type: "offered" }),
      ready: ready.promise,
      async commit(): Promise<void> {
        expected = "in-charge";
        committed = true;
        await tell({ type: "commit" });
        await took.promise;
      },
      link: ({ name }: Participant): Link => ({
        send: (data, handle) => tell({ type: "data", name, data }, handle),
        onData: (receive) => inboxes.get(name)?.open(receive),
      }),
    };
  }

  /** Ends the new process, if there is one, then lets every participant undo what it did. */
  async function rollBack(starting: Promise<StartedProcess> | undefined, reason: ReloadError): Promise<void> {
    child ??= await starting?.catch(() => undefined);
    if (child !== undefined) {
      child.kill();
      const reaped = Promise.withResolvers<unknown>();
      const stopTimer = adapter.timer(REAP_TIMEOUT, () => reaped.resolve(undefined));
      child.exited.then(reaped.resolve);
      await reaped.promise;
      stopTimer();
      child.release();
    }
    for (const participant of asked.toReversed()) {
      try {
        await participant.rollback?.(reason);
      } catch (error) {
        emit({ type: "rollback-fail", participant: participant.name, error });
      }
    }
  }

  failure.promise.catch(() => {}); // Nobody may be waiting for a step when it fails.
  // In a turn of its own, so that whoever began the reload can abort it from its first step on.
  return {
    outcome: Promise.resolve().then(run),
    get wasInCharge() {
      return inCharge !== undefined;
    },
    get heir() {
      return committed && !failed.signal.aborted && child !== undefined
        ? { pid: childPid ?? child.pid, channel: child.channel }
        : undefined;
    },
    abort: (error) => committed ? probationOver.resolve() : fail(error),
  };
}

/** Lets every participant take a step that cannot fail: the new process is in charge. */
export async function leave(
  participants: readonly Participant[],
  step: (participant: Participant) => void | Promise<void>,
  emit: (event: ReloadEvent) => void,
): Promise<void> {
  for (const participant of participants) {
    try {
      await step(participant);
    } catch (error) {
      emit({ type: "warning", message: `${participant.name} could not retire: ${describeError(error)}` });
    }
  }
}
