import type { Adapter } from "../core/adapter.ts";
import { describeError } from "../core/describe_error.ts";
import { ReloadError } from "../core/error.ts";
import type { ReloadCause } from "../core/event.ts";
import { DEFAULT_PROBATION_MS, DEFAULT_READY_TIMEOUT_MS } from "../core/options.ts";
import { atMost, pause } from "../core/pause.ts";
import { type JoinedReload, joinReload } from "../reload/incoming.ts";
import { beginReload, type PromotedSuccessor, type RunningReload } from "../reload/outgoing.ts";
import type { Beginning, LoadedProgram } from "./begin.ts";
import { createCheck } from "./check.ts";
import { type Action, type Event, initial, next, type State, successorOf } from "./machine.ts";
import type { ProgramContext, ProgramParts } from "../reload/context.ts";
import { passOn } from "./pass_on.ts";
import { createReloadQueue } from "./queue.ts";
import { awaitReadiness } from "./readiness.ts";

/** How long it may take to send a message. */
const OVER_TIMEOUT_MS = 1_000;

/**
 * How long a process that has been replaced stays at least. Signals that are on their way to it are passed on; a process that is about to exit
 * reads none any more, and they would be lost.
 */
const LINGER_MS = 250;

/**
 * One generation of the program, from its start to its retirement: takes over from the predecessor, reloads, hands over. What it needs at
 * once has begun before.
 */
export function createProgram(
  adapter: Adapter,
  beginning: Beginning,
  assemble: (program: ProgramContext) => ProgramParts,
): LoadedProgram {
  const { options, token, cancel, predecessor, emit, warn } = beginning;
  const generation = predecessor?.generation ?? 0;
  const queue = createReloadQueue();
  const tookOver = Promise.withResolvers<void>();
  let state: State = initial(predecessor !== undefined);
  let outgoing: RunningReload | undefined; // The last one.
  let incoming: JoinedReload | undefined;

  /** Enters the next state. The caller, or `act`, has to take the action. */
  function dispatch(event: Event): Action | undefined {
    const step = next(state, event);
    state = step.state;
    return step.action;
  }

  function act(action: Action | undefined): void {
    const shutdown = () => new ReloadError("cancelled", "this process is shutting down");
    if (action === "decline") incoming?.failed("it is shutting down");
    if (action === "announce") incoming?.stopping();
    if (action === "abort") outgoing?.abort(shutdown());
    if (state.name === "stopping") queue.clear(shutdown());
    const queued = action === "begin queued" && queue.take();
    if (queued) reload(queued.cause).then(queued.outcome.resolve, queued.outcome.reject);
  }

  const { handovers, members, ...parts } = assemble({
    pid: adapter.pid,
    runtime: adapter.runtime,
    generation,
    reloadSignals: adapter.reloadSignals,
    clock: adapter,
    options,
    token,
    wrapped: beginning.wrapped,
    live: beginning.live,
    natives: beginning.natives,
    datagrams: beginning.datagrams,
    hasPredecessor: predecessor !== undefined,
    reload: () => reload({ by: "call" }),
    emit,
    warn,
  });

  if (predecessor !== undefined) {
    incoming = joinReload(
      predecessor,
      { clock: adapter, pid: adapter.pid, descriptors: adapter.inheritedDescriptors?.() },
      handovers,
      {
        takeOver(how) {
          dispatch({ type: "take over" });
          tookOver.resolve();
          emit({ type: "in-charge", generation, predecessor: how });
        },
        over() {
          adapter.warmUp?.();
          act(dispatch({ type: "over" }));
        },
        check: createCheck(adapter, options, parts.supervisor?.check, token.signal),
        revoke: (by) => cancel({ kind: "reload", ...by }),
        reload: () => onReloadAsked({ by: "predecessor" }),
        shutdown: onShutdownAsked,
        warn,
      },
    );
  }

  const ready = awaitReadiness({
    ready: beginning.ready,
    automatic: readyByItself(),
    onReady() {
      if (token.isCancelled) return;
      if (incoming !== undefined) incoming.ready();
      else for (const handover of handovers) handover.ready?.();
    },
    async onFail(error) {
      if (state.name === "waiting") {
        incoming?.failed(describeError(error));
        await tookOver.promise; // Never, unless the predecessor is gone before it could end this process.
      }
      throw error; // Left to the runtime, as an unhandled rejection: nobody else would hear of it.
    },
  });

  /**
   * Not before the next turn of the event loop, so that a program which throws right after listen() never counts as ready. What is inherited
   * comes in a message, which is later than that; a timer would cost a successor 7 ms on Deno.
   */
  function readyByItself(): Promise<unknown> | undefined {
    if (incoming !== undefined) return incoming.complete;
    if (handovers.every((handover) => handover.ready === undefined)) return undefined;
    return pause(adapter, 0).then(parts.listening);
  }

  function onReloadAsked(cause: ReloadCause): void {
    incoming?.checkPredecessor();
    const successor = successorOf(state);
    switch (dispatch({ type: "reload" })) {
      case "begin":
        return void run(cause).catch(() => {}); // Reported by run().
      case "queue":
        return void enqueue(cause).catch(() => {});
      case "refuse":
        return emit({ type: "reload-ignore", message: "asked to reload, but it is shutting down" });
      case "pass on":
        if (successor !== undefined) passOn(successor, { type: "reload" }, emit);
    }
  }

  /** A supervisor that stops the one process it knows means the whole program. */
  function onShutdownAsked(signal: string): Promise<unknown> {
    const successor = successorOf(state);
    const passedOn = successor && passOn(successor, { type: "shutdown", signal }, emit);
    cancel({ kind: "shutdown", signal });
    return Promise.resolve(passedOn);
  }

  function enqueue(cause: ReloadCause): Promise<number> {
    const outcome = queue.add(cause);
    emit({ type: "reload-later", cause });
    return outcome;
  }

  async function reload(cause: ReloadCause): Promise<number> {
    const { pid, runtime } = adapter;
    if (!adapter.canReload) {
      throw new ReloadError(
        "unsupported",
        `process ${pid} cannot be reloaded: there are no signals or processes here (${runtime})`,
      );
    }
    incoming?.checkPredecessor();
    switch (dispatch({ type: "reload" })) {
      case "begin":
        return await run(cause);
      case "queue":
        return await enqueue(cause);
    }
    const why = state.name === "stopping" ? "it is shutting down" : `pid ${successorOf(state)?.pid} is in charge now`;
    throw new ReloadError("cancelled", `process ${pid} cannot reload any more: ${why}`);
  }

  /** One reload. The state is `reloading`. */
  async function run(cause: ReloadCause): Promise<number> {
    const begun = adapter.now();
    const current = outgoing = beginReload({
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
      probation: () => options.probation ?? (handovers.some((handover) => handover.isListening?.()) ? DEFAULT_PROBATION_MS : 0),
      onCommit: (successor) => dispatch({ type: "commit", successor }),
      emit,
    });
    emit({ type: "reload-begin", cause, generation: generation + 1 });
    try {
      return await handOverTo(await outgoing.outcome);
    } catch (error) {
      const milliseconds = adapter.now() - begun;
      emit({ type: "reload-fail", error: error as ReloadError, milliseconds, wasInCharge: current.wasInCharge });
      act(dispatch({ type: "fail" }));
      throw error;
    }
  }

  /** The successor is in charge for good. */
  async function handOverTo({ pid, send, milliseconds, retire }: PromotedSuccessor): Promise<number> {
    dispatch({ type: "succeed" });
    await retire(token.signal);
    emit({ type: "reload-end", pid, generation: generation + 1, milliseconds });
    // What was to be reloaded may have changed after the new process started: it reloads once more, if that was asked for. It is told
    // before the token is cancelled, because the application may end this process at once.
    const queued = queue.take();
    const told = send({ type: "over", reload: queued !== undefined }).catch(() => {}); // It is gone: nobody to tell.
    await atMost(adapter, OVER_TIMEOUT_MS, told);
    queued?.outcome.resolve(pid);
    dispatch({ type: "leave" });
    if (!token.isCancelled) adapter.timer(LINGER_MS, () => {});
    cancel({ kind: "reload", pid, generation: generation + 1 });
    return pid;
  }

  /** The new process is killed before the application hears of the shutdown: it would take the end of this one for a reason to carry on. */
  function onCancel(): void {
    act(dispatch({ type: "cancel" }));
  }
  if (token.isCancelled) onCancel();

  return {
    ...members,
    inheritedState: parts.inheritedState,
    ready,
    reload,
    onReloadAsked,
    onShutdownAsked,
    onCancel,
    settled: async () => await outgoing?.outcome.catch(() => {}),
  };
}
