import type { Adapter, ExitStatus, StartedProcess, StartRequest } from "../core/adapter.ts";
import { describeError, describeExit } from "../core/describe_error.ts";
import { ReloadError, type ReloadErrorCode, type ReloadErrorDetails } from "../core/error.ts";
import type { ReloadEvent } from "../core/event.ts";
import { atMost } from "../core/pause.ts";
import { passProbation } from "./probation.ts";
import { createDialogue, type Dialogue } from "./dialogue.ts";
import type { Handover, OutgoingReload } from "./handover.ts";
import type { FromPredecessor } from "../protocol/reload.ts";
import { createOutgoingHandovers, type OutgoingHandovers } from "./outgoing_handovers.ts";

/** What one reload needs. */
export interface OutgoingOptions {
  adapter: Adapter;
  handovers: readonly Handover[];
  /** What to start, without the fields that only the reload itself knows. */
  request: Omit<StartRequest, "signal" | "sendsSockets" | "sendsDescriptors" | "native">;
  /** Milliseconds from the beginning until the new process must be in charge. */
  readyTimeout: number;
  /**
   * Milliseconds for which a new process that is in charge may still fail. Called before it is told
   * to take charge.
   */
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
  /**
   * Lets the handovers retire; `shutdown` cuts that short. Then the successor no longer keeps this
   * process alive.
   */
  retire(shutdown: AbortSignal): Promise<void>;
}

/** One reload, seen from the old process. */
export interface RunningReload {
  /**
   * Resolves when the successor has passed its probation; rejects with a ReloadError when
   * everything is rolled back.
   */
  readonly outcome: Promise<PromotedSuccessor>;
  /** Whether the successor was in charge. */
  readonly wasInCharge: boolean;
  /**
   * This process shuts down: gives the reload up, or, once the new process was told to take charge,
   * ends its probation.
   */
  abort(error: ReloadError): void;
}

/**
 * How long to wait for the kernel to end a process that was killed; it may hang in a dead network
 * file system.
 */
const REAP_TIMEOUT_MS = 5_000;
/**
 * How long a new process that has failed its check may finish what it has begun; its idle
 * connections take the probation besides.
 */
const FINISH_TIMEOUT_MS = 10_000;
/**
 * How long to wait for news of what has already happened. Most exits are noticed first as a closed
 * channel, and only then with their status. And the timers of a process that was frozen fire before
 * it reads what came in the meantime.
 */
const NEWS_TIMEOUT_MS = 1_000;

/** In `done` and `failed` the outcome is settled, or about to be. */
type Phase = "starting" | "committing" | "probation" | "done" | "failed";

/** The state of one reload. */
interface Reloading {
  readonly options: OutgoingOptions;
  readonly begun: number;
  /** Fires when the reload fails; the first failure is its reason. */
  readonly failed: AbortController;
  /** Rejects when the reload fails. Never resolves. */
  readonly failure: PromiseWithResolvers<never>;
  /** Fires when the probation is to end early. */
  readonly hurry: AbortController;
  readonly dialogue: Dialogue;
  readonly sides: OutgoingHandovers;
  phase: Phase;
  /**
   * Milliseconds from the beginning until the new process was in charge; `undefined` while it was
   * not.
   */
  inChargeAfter: number | undefined;
  /** Whether the new process was asked to shut down. Then its end is no failure. */
  isStopping: boolean;
  child: StartedProcess | undefined;
  /** The pid in `hello`: a wrapper may have been started in its place. */
  reportedPid: number | undefined;
  /** Milliseconds of probation, once they are known. */
  probation: number;
}

/**
 * The two-phase commit, seen from the old process: prepare, start the new process, offer, wait
 * until it is ready, commit, wait until it is in charge. Then the new process is on probation,
 * because many a new version fails at its first request: when it dies, this process takes charge
 * again.
 */
export function beginReload(options: OutgoingOptions): RunningReload {
  const reloading = createReloading(options);
  return {
    // In a later turn, so that the caller can abort the reload from its first step on.
    outcome: Promise.resolve().then(() => run(reloading)),
    get wasInCharge() {
      return reloading.inChargeAfter !== undefined;
    },
    abort: (error) =>
      reloading.phase === "starting" ? fail(reloading, error) : reloading.hurry.abort(),
  };
}

function createReloading(options: OutgoingOptions): Reloading {
  const { adapter, handovers, request: { generation }, emit } = options;
  const failed = new AbortController();
  const failure = Promise.withResolvers<never>();
  failure.promise.catch(() => {}); // No step may be waiting when it rejects.
  const dialogue = createDialogue(adapter, handovers.map(({ name }) => name), {
    fail: (code, what, details) => fail(reloading, errorOf(reloading, code, what, details)),
    stopping() {
      if (reloading.phase === "failed") return; // It was told to.
      reloading.isStopping = true;
      reloading.hurry.abort();
    },
    failure: failure.promise,
  });
  const reloadFor = (name: string): OutgoingReload => ({
    signal: failed.signal,
    generation,
    get pid() {
      return pidOf(reloading);
    },
    link: dialogue.link(name),
    disown: async () => await reloading.child?.disown() ?? false,
  });
  const reloading: Reloading = {
    options,
    begun: adapter.now(),
    failed,
    failure,
    hurry: new AbortController(),
    dialogue,
    sides: createOutgoingHandovers(handovers, reloadFor, (work) => step(reloading, work), emit),
    phase: "starting",
    inChargeAfter: undefined,
    isStopping: false,
    child: undefined,
    reportedPid: undefined,
    probation: 0,
  };
  return reloading;
}

const pidOf = ({ reportedPid, child }: Reloading) => reportedPid ?? child?.pid;

function errorOf(
  reloading: Reloading,
  code: ReloadErrorCode,
  what: string,
  details: ReloadErrorDetails = {},
): ReloadError {
  const pid = pidOf(reloading);
  const which = pid === undefined ? "the new process" : `the new process (pid ${pid})`;
  return new ReloadError(code, `${which} ${what}`, { ...details, pid });
}

/** The first failure counts. */
function fail(reloading: Reloading, error: ReloadError): void {
  const { phase, hurry, sides, child, failure, failed } = reloading;
  if (phase === "done" || phase === "failed") return;
  // It is about to end, and answers no more.
  if (error.code === "check" && hurry.signal.aborted) return;
  error.message += sides.explain(error.code);
  reloading.phase = "failed";
  // At once: the application may end this process before any awaited step goes on. One that has
  // failed its check finishes before.
  if (error.code !== "check") child?.kill();
  failure.reject(error);
  failed.abort(error);
}

/** Waits for a step. Rejects as soon as the reload fails. */
function step<T>({ failure }: Reloading, work: Promise<T>): Promise<T> {
  return Promise.race([work, failure.promise]);
}

async function run(reloading: Reloading): Promise<PromotedSuccessor> {
  const { sides, failed } = reloading;
  const stopTimer = limitTime(reloading);
  try {
    const successor = await putInCharge(reloading);
    // It may have died in the turn in which it was heard to be in charge.
    failed.signal.throwIfAborted();
    stopTimer();
    const milliseconds = beginProbation(reloading, successor.pid);
    await prove(reloading, successor.pid);
    reloading.phase = "done";
    // From now on only for messages that cannot be sent.
    reloading.failure.reject(errorOf(reloading, "exit", "is gone"));
    return {
      ...successor,
      milliseconds,
      async retire(shutdown) {
        await sides.runFinalStep((side) => side.retire?.(shutdown));
        release(reloading);
      },
    };
  } catch (cause) {
    const couldNotStart = () =>
      errorOf(reloading, "start", `could not be started: ${describeError(cause)}`, { cause });
    fail(reloading, cause instanceof ReloadError ? cause : couldNotStart());
    // The first failure is the reason; an error that a step throws because it was told to stop is
    // not.
    const reason: ReloadError = failed.signal.reason;
    await rollBack(reloading, reason);
    throw reason;
  } finally {
    stopTimer();
  }
}

/** Fails the reload when the new process is not in charge in time. */
function limitTime(reloading: Reloading): () => void {
  const { adapter, readyTimeout } = reloading.options;
  const overdue = () =>
    fail(reloading, errorOf(reloading, "timeout", `was not in charge within ${readyTimeout} ms`));
  let stop = adapter.timer(readyTimeout, () => {
    // A process that was told to take charge may have done so: its answer is waited for once more.
    if (reloading.phase === "committing") stop = adapter.timer(NEWS_TIMEOUT_MS, overdue);
    else overdue();
  });
  return () => stop();
}

/** Resolves when the new process is in charge. */
async function putInCharge(reloading: Reloading): Promise<Successor> {
  const { options, dialogue, sides } = reloading;
  const { request: { generation }, emit } = options;
  reloading.failed.signal.throwIfAborted();
  const started = await start(reloading);
  watch(reloading, started);
  dialogue.open(started);
  await sides.runStep("go on", (side) => side.started?.());
  const pid = reloading.reportedPid = await step(reloading, dialogue.hello);
  await sides.runStep("offer", (side) => side.offer?.());
  await step(reloading, dialogue.offered());
  await step(reloading, dialogue.ready);
  emit({ type: "successor-ready", pid, generation });
  await sides.runStep("agree", (side) => side.agree?.());
  // Now: servers that are about to be handed over do not listen any more afterwards.
  reloading.probation = options.probation();
  await sides.runStep("commit", (side) => side.commit?.());
  // It may have failed in the turn in which the step ended.
  reloading.failed.signal.throwIfAborted();
  reloading.phase = "committing";
  options.onCommit({ pid, send: dialogue.send });
  await step(reloading, dialogue.commit());
  return { pid, send: dialogue.send };
}

async function start(reloading: Reloading): Promise<StartedProcess> {
  const { options: { adapter, request, emit }, sides, failed } = reloading;
  await sides.prepare();
  await sides.runStep("begin", (side) => side.beforeStart?.());
  const starting = adapter.start({ ...request, ...sides.sends(), signal: failed.signal });
  starting.then((started) => reloading.child = started, () => {});
  const started = await step(reloading, starting).catch(async (error) => {
    // A process that is being started must be known before it can be killed.
    await starting.catch(() => {});
    throw error;
  });
  emit({ type: "successor-start", pid: started.pid, generation: request.generation });
  return started;
}

/** Watches how the new process ends, or loses its channel. */
function watch(reloading: Reloading, { channel, exited }: StartedProcess): void {
  channel.onClose(() => {
    const stop = reloading.options.adapter.timer(NEWS_TIMEOUT_MS, () => {
      if (!reloading.isStopping) {
        fail(reloading, errorOf(reloading, "protocol", "closed its channel to this one"));
      }
    });
    reloading.failed.signal.addEventListener("abort", stop);
    if (reloading.phase === "done" || reloading.phase === "failed") stop();
  });
  exited.then((status) => onExit(reloading, status));
}

function onExit(reloading: Reloading, { code, signal }: ExitStatus): void {
  const { inChargeAfter, isStopping, phase, begun, options: { adapter, emit } } = reloading;
  if (inChargeAfter !== undefined && isStopping) return;
  if (phase === "done") {
    if ((code ?? signal ?? 0) === 0) return;
    return emit({
      type: "successor-exit",
      pid: pidOf(reloading) as number,
      exitCode: code,
      exitSignal: signal,
    });
  }
  const passed = inChargeAfter !== undefined && Math.round(adapter.now() - begun - inChargeAfter);
  const when = passed === false ? "before it was in charge" : `${passed} ms after it was in charge`;
  const what = `${describeExit(code, signal)} ${when}`;
  fail(reloading, errorOf(reloading, "exit", what, { exitCode: code, exitSignal: signal }));
}

/** Returns how long it took until the new process was in charge, in milliseconds. */
function beginProbation(reloading: Reloading, pid: number): number {
  const { begun, options: { adapter, request: { generation }, emit } } = reloading;
  reloading.phase = "probation";
  const milliseconds = reloading.inChargeAfter = adapter.now() - begun;
  emit({ type: "successor-in-charge", pid, generation, milliseconds });
  return milliseconds;
}

/** Rejects when the new process fails while this one can still take charge again. */
async function prove(reloading: Reloading, pid: number): Promise<void> {
  const { options: { adapter: clock }, failed, hurry, dialogue, sides } = reloading;
  const ended = AbortSignal.any([failed.signal, hurry.signal]);
  async function pass(time: number, until?: Promise<void>): Promise<void> {
    const outcome = await step(
      reloading,
      passProbation({ clock, time, until, ask: dialogue.ask, ended }),
    );
    if (outcome !== "silent") return;
    throw errorOf(reloading, "silent", "is in charge, but has not given a sign of life any more");
  }
  await sides.runFinalStep((side) => side.handedOver?.());
  // Before connections move: they cannot be moved back.
  await pass(0, allPass(reloading));
  await sides.runFinalStep((side) => side.onProbation?.());
  await pass(reloading.probation);
  await step(reloading, sides.runFinalStep((side) => side.beforeRetire?.(hurry.signal)));
  sides.reportMoved(pid);
  await pass(0);
}

/** Resolves when the new process has passed its check, and every handover agrees. */
async function allPass(reloading: Reloading): Promise<void> {
  const { dialogue, sides } = reloading;
  await dialogue.check();
  try {
    await sides.runStep("agree", (side) => side.passed?.(), "check");
  } catch (error) {
    fail(reloading, error as ReloadError);
    throw error;
  }
}

/** Ends the new process, if there is one, and lets every handover undo what it did. */
async function rollBack(reloading: Reloading, reason: ReloadError): Promise<void> {
  const { sides } = reloading;
  if (reason.code === "check") return await rollBackAfterCheck(reloading, reason);
  await end(reloading);
  await sides.rollBack(reason);
}

/**
 * The new process works: it finishes what it has begun to answer, while this one is in charge
 * again.
 */
async function rollBackAfterCheck(reloading: Reloading, reason: ReloadError): Promise<void> {
  const {
    options: { adapter, request: { generation } },
    dialogue,
    sides,
    child,
    hurry,
    probation,
  } = reloading;
  // Where a socket comes back that travels alone, nothing may be on its way before it: the answer
  // to a question, for example.
  await atMost(adapter, NEWS_TIMEOUT_MS, dialogue.ask().catch(() => {}));
  await sides.rollBack(reason);
  await dialogue.send({ type: "revoke", pid: adapter.pid, generation: generation - 1 }).catch(
    () => {},
  ); // It is gone.
  const isHurried = new Promise<void>((resolve) =>
    hurry.signal.addEventListener("abort", () => resolve())
  );
  if (child !== undefined) {
    await atMost(adapter, FINISH_TIMEOUT_MS + probation, Promise.race([child.exited, isHurried]));
  }
  await end(reloading);
  await sides.runFinalStep((side) => side.ended?.());
}

async function end(reloading: Reloading): Promise<void> {
  const { child, options: { adapter } } = reloading;
  if (child === undefined) return;
  child.kill();
  await atMost(adapter, REAP_TIMEOUT_MS, child.exited);
  release(reloading);
}

function release({ child }: Reloading): void {
  child?.descriptors?.close();
  child?.release();
}
