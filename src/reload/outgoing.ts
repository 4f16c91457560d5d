import type { Adapter, ExitStatus, StartedProcess, StartRequest } from "../core/adapter.ts";
import { describeError, describeExit } from "../core/describe_error.ts";
import { ReloadError, type ReloadErrorCode, type ReloadErrorDetails } from "../core/error.ts";
import type { ReloadEvent } from "../core/event.ts";
import { atMost } from "../core/pause.ts";
import { passProbation } from "./probation.ts";
import { createDialogue } from "./dialogue.ts";
import type { Handover } from "./handover.ts";
import type { FromPredecessor } from "../protocol/reload.ts";
import { createOutgoingHandovers } from "./outgoing_handovers.ts";

/** What one reload needs. */
export interface OutgoingOptions {
  adapter: Adapter;
  handovers: readonly Handover[];
  /** What to start, without the fields that only the reload itself knows. */
  request: Omit<StartRequest, "signal" | "sendsSockets" | "sendsDescriptors" | "native">;
  /** Milliseconds from the beginning until the new process must be in charge. */
  readyTimeout: number;
  /** Milliseconds for which a new process that is in charge may still fail. Called before it is told to take charge. */
  probation(): number;
  /** Called right before the new process is told to take charge. */
  onCommit(successor: Successor): void;
  emit(event: ReloadEvent): void;
}

/** The process to which this one passes on what it is asked to do. */
export interface Successor {
  readonly pid: number;
  /** Sends it a message. Rejects when it is gone. */
  send(message: FromPredecessor): Promise<void>;
}

/** The successor that a reload has put in charge. */
export interface PromotedSuccessor extends Successor {
  /** How long it took until it was in charge. */
  readonly milliseconds: number;
  /** Lets the handovers retire; `shutdown` cuts that short. Then the successor no longer keeps this process alive. */
  retire(shutdown: AbortSignal): Promise<void>;
}

/** One reload, seen from the old process. */
export interface RunningReload {
  /** Resolves when the successor has passed its probation; rejects with a ReloadError when everything is rolled back. */
  readonly outcome: Promise<PromotedSuccessor>;
  /** Was the successor in charge? */
  readonly wasInCharge: boolean;
  /** This process shuts down: gives the reload up, or, once the new process was told to take charge, ends its probation. */
  abort(error: ReloadError): void;
}

/** How long to wait for the kernel to end a process that was killed; it may hang in a dead network file system. */
const REAP_TIMEOUT_MS = 5_000;
/** How long a new process that has failed its check may finish what it has begun; its idle connections take the probation besides. */
const FINISH_TIMEOUT_MS = 10_000;
/**
 * How long to wait for news of what has already happened. Most exits are noticed first as a closed channel, and only then with their
 * status. And the timers of a process that was frozen fire before it reads what came in the meantime.
 */
const NEWS_TIMEOUT_MS = 1_000;

type Phase = "starting" | "committing" | "probation" | "done" | "failed"; // In the last two the outcome is settled, or about to be.

/**
 * The two-phase commit, seen from the old process: prepare, start the new process, offer, wait until it is ready, commit, wait until it
 * is in charge. Then the new process is on probation, because many a new version fails at its first request: when it dies, this process
 * takes charge again.
 */
export function beginReload(options: OutgoingOptions): RunningReload {
  const { adapter, handovers, request, emit } = options;
  const { generation } = request;
  const begun = adapter.now();
  const failed = new AbortController();
  const failure = Promise.withResolvers<never>();
  failure.promise.catch(() => {}); // No step may be waiting when it rejects.
  /** Fires when the probation is to end early. */
  const hurry = new AbortController();
  let phase: Phase = "starting";
  /** Milliseconds from the beginning until the new process was in charge; `undefined` while it was not. */
  let inChargeAfter: number | undefined;
  /** Was the new process asked to shut down? Then its end is no failure. */
  let isStopping = false;
  let child: StartedProcess | undefined;
  let reportedPid: number | undefined;
  /** Milliseconds of probation, once they are known. */
  let probation = 0;

  const dialogue = createDialogue(adapter, handovers.map(({ name }) => name), {
    fail: (code, what, details) => fail(error(code, what, details)),
    stopping() {
      if (phase === "failed") return; // It was told to.
      isStopping = true;
      hurry.abort();
    },
    failure: failure.promise,
  });
  const pid = () => reportedPid ?? child?.pid;
  const sides = createOutgoingHandovers(
    handovers,
    (name) => ({
      signal: failed.signal,
      generation,
      get pid() {
        return pid();
      },
      link: dialogue.link(name),
      disown: async () => await child?.disown?.() ?? false,
    }),
    step,
    emit,
  );
  const { runStep } = sides;

  function error(code: ReloadErrorCode, what: string, details: ReloadErrorDetails = {}): ReloadError {
    const which = pid() === undefined ? "the new process" : `the new process (pid ${pid()})`;
    return new ReloadError(code, `${which} ${what}`, { ...details, pid: pid() });
  }

  /** The first failure counts. */
  function fail(error: ReloadError): void {
    if (phase === "done" || phase === "failed") return;
    if (error.code === "check" && hurry.signal.aborted) return; // It is about to end, and answers no more.
    error.message += sides.explain(error.code);
    phase = "failed";
    // At once: the application may end this process before any awaited step goes on. One that has failed its check finishes before.
    if (error.code !== "check") child?.kill();
    failure.reject(error);
    failed.abort(error);
  }

  /** Waits for a step; rejects as soon as the reload fails. */
  function step<T>(work: Promise<T>): Promise<T> {
    return Promise.race([work, failure.promise]);
  }

  async function start(): Promise<StartedProcess> {
    await sides.prepare();
    await runStep("begin", (side) => side.beforeStart?.());
    const starting = adapter.start({ ...request, ...sides.sends(), signal: failed.signal });
    starting.then((started) => child = started, () => {});
    const started = await step(starting).catch(async (error) => {
      await starting.catch(() => {}); // A process that is being started must be known before it can be killed.
      throw error;
    });
    emit({ type: "successor-start", pid: started.pid, generation });
    return started;
  }

  /** Watches how the new process ends, or loses its channel. */
  function watch({ channel, exited }: StartedProcess): void {
    channel.onClose(() => {
      const stop = adapter.timer(
        NEWS_TIMEOUT_MS,
        () => isStopping || fail(error("protocol", "closed its channel to this one")),
      );
      failed.signal.addEventListener("abort", stop);
      if (phase === "done" || phase === "failed") stop();
    });
    exited.then(onExit);
  }

  function onExit({ code, signal }: ExitStatus): void {
    if (inChargeAfter !== undefined && isStopping) return;
    if (phase === "done") {
      if ((code ?? signal ?? 0) === 0) return;
      return emit({ type: "successor-exit", pid: pid() as number, exitCode: code, exitSignal: signal });
    }
    const passed = inChargeAfter !== undefined && Math.round(adapter.now() - begun - inChargeAfter);
    const when = passed === false ? "before it was in charge" : `${passed} ms after it was in charge`;
    fail(error("exit", `${describeExit(code, signal)} ${when}`, { exitCode: code, exitSignal: signal }));
  }

  /** Resolves when the new process is in charge. */
  async function putInCharge(): Promise<Successor> {
    failed.signal.throwIfAborted();
    const started = await start();
    watch(started);
    dialogue.open(started);
    await runStep("go on", (side) => side.started?.());
    const pid = reportedPid = await step(dialogue.hello);
    await runStep("offer", (side) => side.offer?.());
    await step(dialogue.offered());
    await step(dialogue.ready);
    emit({ type: "successor-ready", pid, generation });
    await runStep("agree", (side) => side.agree?.());
    probation = options.probation(); // Now: servers that are about to be handed over do not listen any more afterwards.
    await runStep("commit", (side) => side.commit?.());
    phase = "committing";
    options.onCommit({ pid, send: dialogue.send });
    await step(dialogue.commit());
    return { pid, send: dialogue.send };
  }

  async function run(): Promise<PromotedSuccessor> {
    const overdue = () => fail(error("timeout", `was not in charge within ${options.readyTimeout} ms`));
    let stopTimer = adapter.timer(options.readyTimeout, () => {
      // A process that was told to take charge may have done so: its answer is waited for once more.
      if (phase === "committing") stopTimer = adapter.timer(NEWS_TIMEOUT_MS, overdue);
      else overdue();
    });
    try {
      const successor = await putInCharge();
      failed.signal.throwIfAborted(); // It may have died in the turn in which it was heard to be in charge.
      stopTimer();
      phase = "probation";
      const milliseconds = inChargeAfter = adapter.now() - begun;
      emit({ type: "successor-in-charge", pid: successor.pid, generation, milliseconds });
      await prove();
      phase = "done";
      failure.reject(error("exit", "is gone")); // From now on only for messages that cannot be sent.
      return {
        ...successor,
        milliseconds,
        async retire(shutdown) {
          await sides.runFinalStep((side) => side.retire?.(shutdown));
          child?.descriptors?.close();
          child?.release();
        },
      };
    } catch (cause) {
      fail(cause instanceof ReloadError ? cause : error("start", `could not be started: ${describeError(cause)}`, { cause }));
      // The first failure is the reason; an error that a step throws because it was told to stop is not.
      const reason: ReloadError = failed.signal.reason;
      await rollBack(reason);
      throw reason;
    } finally {
      stopTimer();
    }
  }

  /** Rejects when the new process fails while this one can still take charge again. */
  async function prove(): Promise<void> {
    const ended = AbortSignal.any([failed.signal, hurry.signal]);
    async function pass(time: number, until?: Promise<void>): Promise<void> {
      const outcome = await step(passProbation({ clock: adapter, time, until, ask: dialogue.ask, ended }));
      if (outcome === "silent") throw error("silent", "is in charge, but has not given a sign of life any more");
    }
    await sides.runFinalStep((side) => side.handedOver?.());
    const checked = dialogue.check();
    if (checked !== undefined) await pass(0, checked); // Before connections move: they cannot be moved back.
    await sides.runFinalStep((side) => side.onProbation?.());
    await pass(probation);
    await step(sides.runFinalStep((side) => side.beforeRetire?.(hurry.signal)));
    sides.reportMoved(child?.pid);
    await pass(0);
  }

  /** Ends the new process, if there is one, and lets every handover undo what it did. */
  async function rollBack(reason: ReloadError): Promise<void> {
    if (reason.code !== "check") {
      await end();
      return await sides.rollBack(reason);
    }
    // The new process works: it answers what it has begun to answer, while this one is in charge again. Where a socket comes back that
    // travels alone, nothing may be on its way before it: the answer to a question, for example.
    await atMost(adapter, NEWS_TIMEOUT_MS, dialogue.ask().catch(() => {}));
    await sides.rollBack(reason);
    await dialogue.send({ type: "revoke", pid: adapter.pid, generation: generation - 1 }).catch(() => {}); // It is gone.
    const isHurried = new Promise<void>((resolve) => hurry.signal.addEventListener("abort", () => resolve()));
    if (child !== undefined) await atMost(adapter, FINISH_TIMEOUT_MS + probation, Promise.race([child.exited, isHurried]));
    await end();
    await sides.runFinalStep((side) => side.ended?.());
  }

  async function end(): Promise<void> {
    if (child === undefined) return;
    child.kill();
    await atMost(adapter, REAP_TIMEOUT_MS, child.exited);
    child.descriptors?.close();
    child.release();
  }

  return {
    outcome: Promise.resolve().then(run), // In a later turn, so that the caller can abort the reload from its first step on.
    get wasInCharge() {
      return inChargeAfter !== undefined;
    },
    abort: (error) => phase === "starting" ? fail(error) : hurry.abort(),
  };
}
