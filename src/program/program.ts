import type { Adapter, Predecessor } from "../core/adapter.ts";
import { describeError } from "../core/describe_error.ts";
import { ReloadError } from "../core/error.ts";
import type { ReloadCause } from "../core/event.ts";
import { DEFAULT_PROBATION_MS, DEFAULT_READY_TIMEOUT_MS } from "../core/options.ts";
import { atMost, pause } from "../core/pause.ts";
import { type JoinedReload, joinReload } from "../reload/incoming.ts";
import {
  beginReload,
  type PromotedSuccessor,
  type RunningReload,
  type Successor,
} from "../reload/outgoing.ts";
import { createWarnOnce } from "../sockets/common.ts";
import type { Beginning, LoadedProgram } from "./begin.ts";
import { createCheck } from "./check.ts";
import { type Event, initial, next, type State, successorOf } from "./machine.ts";
import type { ProgramContext, ProgramParts } from "../reload/context.ts";
import { passOn } from "./pass_on.ts";
import { createReloadQueue, type ReloadQueue } from "./queue.ts";
import { awaitReadiness } from "./readiness.ts";

/** How long it may take to send a message. */
const OVER_TIMEOUT_MS = 1_000;

/**
 * How long a process that has been replaced stays at least. Signals that are on their way to it are
 * passed on; a process that is about to exit reads none any more, and they would be lost.
 */
const LINGER_MS = 250;

/** One generation of the program, from its start to its retirement. */
interface Life {
  readonly adapter: Adapter;
  readonly beginning: Beginning;
  readonly parts: ProgramParts;
  readonly queue: ReloadQueue;
  readonly generation: number;
  state: State;
  /** The last reload that this process has begun. */
  outgoing: RunningReload | undefined;
  /** The reload that this process came from. */
  incoming: JoinedReload | undefined;
}

/**
 * One generation of the program: takes over from the predecessor, reloads, hands over. What it
 * needs at once has begun before.
 */
export function createProgram(
  adapter: Adapter,
  beginning: Beginning,
  compose: (program: ProgramContext) => ProgramParts,
): LoadedProgram {
  const { token, predecessor } = beginning;
  const tookOver = Promise.withResolvers<void>();
  const arrived = Promise.withResolvers<void>();
  if (predecessor === undefined) arrived.resolve();
  const generation = predecessor?.generation ?? 0;
  const life: Life = {
    adapter,
    beginning,
    parts: compose(contextOf(adapter, beginning, {
      generation,
      arrived: arrived.promise,
      reload: () => reload(life, { by: "call" }),
    })),
    queue: createReloadQueue(),
    generation,
    state: initial(predecessor !== undefined),
    outgoing: undefined,
    incoming: undefined,
  };
  if (predecessor !== undefined) {
    life.incoming = join(life, predecessor, tookOver.resolve, arrived.resolve);
  }
  const ready = followReadiness(life, tookOver.promise);
  /**
   * The new process is killed before the application hears of the shutdown: it would otherwise see
   * the end of this one, and take over.
   */
  const onCancel = () => void dispatch(life, { type: "cancel" });
  if (token.isCancelled) onCancel();
  const { members, inheritedState } = life.parts;
  const warnOnce = createWarnOnce(beginning.warn);
  return {
    ...members,
    bind(server, options) {
      const isOwn = Number(options?.port) === 0 || options?.reusePort === true;
      if (!adapter.canReload && adapter.sockets !== undefined && !isOwn) {
        warnOnce(
          "a server of a worker thread is not handed over, and that of the next process cannot listen while it does: bind it in the main thread",
        );
      }
      return members.bind(server, options);
    },
    inheritedState,
    ready,
    reload: (cause) => reload(life, cause),
    onReloadAsked: (cause) => onReloadAsked(life, cause),
    onShutdownAsked: (signal) => onShutdownAsked(life, signal),
    onCancel,
    settled: async () => await life.outgoing?.outcome.catch(() => {}),
  };
}

/** The program, as its parts see it. */
function contextOf(
  adapter: Adapter,
  { options, token, predecessor, emit, warn, wrapped, answered, live, natives, datagrams }:
    Beginning,
  more: Pick<ProgramContext, "generation" | "arrived" | "reload">,
): ProgramContext {
  const { pid, runtime, reloadSignals } = adapter;
  const hasPredecessor = predecessor !== undefined;
  return {
    ...{ pid, runtime, reloadSignals, options, token, hasPredecessor, ...more },
    ...{ clock: adapter, emit, warn, wrapped, answered, live, natives, datagrams },
  };
}

/** Joins the reload that this process came from. */
function join(
  life: Life,
  predecessor: Predecessor,
  onTakeOver: () => void,
  onOver: () => void,
): JoinedReload {
  const { adapter, beginning: { options, token, cancel, emit, warn }, parts, generation } = life;
  const self = { clock: adapter, pid: adapter.pid, descriptors: adapter.inheritedDescriptors?.() };
  return joinReload(predecessor, self, parts.handovers, {
    takeOver(how) {
      dispatch(life, { type: "take over" });
      onTakeOver();
      emit({ type: "in-charge", generation, predecessor: how });
    },
    over() {
      adapter.warmUp?.();
      dispatch(life, { type: "over" });
      onOver();
    },
    check: createCheck(adapter, options, parts.supervisor?.check, token.signal),
    revoke: (by) => cancel({ kind: "reload", ...by }),
    reload: () => onReloadAsked(life, { by: "predecessor" }),
    shutdown: (signal) => onShutdownAsked(life, signal),
    warn,
  });
}

/** Returns what makes this process ready now. */
function followReadiness(life: Life, tookOver: Promise<void>): () => void {
  const { beginning, incoming, parts: { handovers } } = life;
  return awaitReadiness({
    ready: beginning.ready,
    automatic: readyByItself(life),
    onReady() {
      if (beginning.token.isCancelled) return;
      if (incoming !== undefined) incoming.ready();
      else for (const handover of handovers) handover.ready?.();
    },
    async onFail(error) {
      if (life.state.name === "waiting") {
        incoming?.failed(describeError(error));
        await tookOver; // Never, unless the predecessor is gone before it could end this process.
      }
      throw error; // Left to the runtime, as an unhandled rejection: nobody else would hear of it.
    },
  });
}

/**
 * Not before the next turn of the event loop, so that a program which throws right after listen()
 * never counts as ready. What is inherited comes in a message, which is later than that; a timer
 * would cost a successor 7 ms on Deno.
 */
function readyByItself(
  { adapter, incoming, parts: { handovers, listening } }: Life,
): Promise<unknown> | undefined {
  if (incoming !== undefined) return incoming.allSent;
  if (handovers.every((handover) => handover.ready === undefined)) return undefined;
  return pause(adapter, 0).then(listening);
}

/**
 * Enters the next state, and does what that demands. For a request to reload it returns the
 * outcome.
 */
function dispatch(
  life: Life,
  event: Event,
  cause: ReloadCause = { by: "call" },
): Promise<number> | undefined {
  const { queue, incoming, outgoing, beginning: { warn } } = life;
  const { state, action } = next(life.state, event);
  life.state = state;
  if (state.name === "stopping") queue.clear(isShuttingDown());
  switch (action) {
    case "begin":
      return run(life, cause);
    case "begin queued": {
      const queued = queue.take();
      return void (queued &&
        reload(life, queued.cause).then(queued.outcome.resolve, queued.outcome.reject));
    }
    case "queue":
      return enqueue(life, cause);
    case "pass on":
      return passOnReload(life, cause);
    case "refuse":
      return refuse(life, cause);
    case "decline":
      return void incoming?.failed("it is shutting down");
    case "announce":
      return void incoming?.stopping();
    case "abort":
      return void outgoing?.abort(isShuttingDown());
    case "report":
      return warn(
        `a defect of reload-self: "${event.type}" while ${state.name}; please report it`,
      ) as undefined;
  }
}

const isShuttingDown = () => new ReloadError("cancelled", "this process is shutting down");

function enqueue({ queue, beginning: { emit } }: Life, cause: ReloadCause): Promise<number> {
  const outcome = queue.add(cause);
  emit({ type: "reload-later", cause });
  return outcome;
}

/**
 * A caller in this process is told where to ask; any other request goes on to the process in
 * charge.
 */
function passOnReload(
  { adapter, beginning: { emit }, state }: Life,
  { by }: ReloadCause,
): Promise<number> | undefined {
  const successor = successorOf(state) as Successor;
  if (by === "call") return cannotReload(adapter.pid, `pid ${successor.pid} is in charge now`);
  passOn(successor, { type: "reload" }, emit);
}

function refuse(
  { adapter, beginning: { emit } }: Life,
  { by }: ReloadCause,
): Promise<number> | undefined {
  if (by === "call") return cannotReload(adapter.pid, "it is shutting down");
  emit({ type: "reload-ignore", message: "asked to reload, but it is shutting down" });
}

const cannotReload = (pid: number, why: string) =>
  Promise.reject<number>(
    new ReloadError("cancelled", `process ${pid} cannot reload any more: ${why}`),
  );

/** A reload is asked for, and nobody waits for its outcome, which is reported. */
function onReloadAsked(life: Life, cause: ReloadCause): void {
  life.incoming?.checkPredecessor();
  dispatch(life, { type: "reload" }, cause)?.catch(() => {});
}

/** A supervisor that stops the one process it knows means the whole program. */
function onShutdownAsked(
  { state, beginning: { cancel, emit } }: Life,
  signal: string,
): Promise<unknown> {
  const successor = successorOf(state);
  const passedOn = successor && passOn(successor, { type: "shutdown", signal }, emit);
  cancel({ kind: "shutdown", signal });
  return Promise.resolve(passedOn);
}

async function reload(life: Life, cause: ReloadCause): Promise<number> {
  const { pid, runtime, canReload } = life.adapter;
  if (!canReload) {
    throw new ReloadError(
      "unsupported",
      `process ${pid} cannot be reloaded from here: this is a worker thread, or a platform without processes (${runtime})`,
    );
  }
  life.incoming?.checkPredecessor();
  return await dispatch(life, { type: "reload" }, cause) as number;
}

/** One reload. The state is `reloading`. */
async function run(life: Life, cause: ReloadCause): Promise<number> {
  const { adapter, beginning: { options, emit }, parts, generation } = life;
  const { handovers } = parts;
  const begun = adapter.now();
  const current = life.outgoing = beginReload({
    adapter,
    handovers,
    request: {
      command: options.command,
      env: { ...parts.env, ...options.env },
      generation: generation + 1,
      how: parts.how,
      supervisor: parts.supervisor,
    },
    readyTimeout: options.readyTimeout ?? DEFAULT_READY_TIMEOUT_MS,
    probation: () =>
      options.probation ??
        (handovers.some((handover) => handover.isListening?.()) ? DEFAULT_PROBATION_MS : 0),
    onCommit: (successor) => void dispatch(life, { type: "commit", successor }),
    emit,
  });
  emit({ type: "reload-begin", cause, generation: generation + 1 });
  try {
    return await retire(life, await current.outcome);
  } catch (error) {
    const milliseconds = adapter.now() - begun;
    emit({
      type: "reload-fail",
      error: error as ReloadError,
      milliseconds,
      wasInCharge: current.wasInCharge,
    });
    dispatch(life, { type: "fail" });
    throw error;
  }
}

/** The successor is in charge for good. */
async function retire(
  life: Life,
  { pid, send, milliseconds, retire }: PromotedSuccessor,
): Promise<number> {
  const { adapter, beginning: { token, cancel, emit }, queue, generation } = life;
  dispatch(life, { type: "succeed" });
  await retire(token.signal);
  emit({ type: "reload-end", pid, generation: generation + 1, milliseconds });
  // What was to be reloaded may have changed after the new process started: it reloads once more,
  // if that was asked for. It is told before the token is cancelled, because the application may
  // end this process at once.
  const queued = queue.take();
  // It is gone: nobody to tell.
  const told = send({ type: "over", reload: queued !== undefined }).catch(() => {});
  await atMost(adapter, OVER_TIMEOUT_MS, told);
  queued?.outcome.resolve(pid);
  dispatch(life, { type: "leave" });
  if (!token.isCancelled) adapter.timer(LINGER_MS, () => {});
  cancel({ kind: "reload", pid, generation: generation + 1 });
  return pid;
}
