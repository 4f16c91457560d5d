import type { Adapter, Clock, StartRequest } from "./adapter.ts";
import { createCancellation } from "./cancellation.ts";
import { describeError, ReloadError } from "./error.ts";
import type { ReloadCause, ReloadEvent } from "./event.ts";
import { pack } from "./messages.ts";
import { createHandOver } from "./hand_over.ts";
import type { ListenOptions } from "./options.ts";
import type { Participant } from "./participant.ts";
import { pause } from "./pause.ts";
import { createReporter } from "./report.ts";
import { beginSuccession, type Succession } from "./succession.ts";
import type { CancellationToken, Token } from "./token.ts";
import { beginTransaction, type Heir, leave, type Successor, type Transaction } from "./transaction.ts";

const DEFAULT_READY_TIMEOUT = 60_000;
const DEFAULT_SETTLE = 1_000;

/** What a part of the library is told of the program that it belongs to. */
export interface ProgramContext {
  readonly pid: number;
  readonly runtime: string;
  readonly generation: number;
  /** What reloads when the application does not say. */
  readonly reloadSignals: readonly string[];
  readonly clock: Clock;
  readonly options: ListenOptions;
  readonly token: CancellationToken;
  readonly hasPredecessor: boolean;
  /** As {@linkcode Token.reload}. */
  reload(): Promise<number>;
  emit(event: ReloadEvent): void;
}

/** What a part of the library adds to a program. */
export interface Extension {
  /** What takes part in a reload. */
  readonly participants: readonly Participant[];
  /** What takes part behind the participants of all others. */
  readonly last?: readonly Participant[];
  /** What the token offers on its behalf. */
  readonly members?: Partial<Pick<Token, "bind" | "fetch" | "path" | "webSocket">>;
  /** Variables to set for a new process, or, where `undefined`, to remove. */
  readonly env?: StartRequest["env"];
  /** How new processes are to be started. */
  readonly start?: StartRequest["how"];
  /** The `reload-self run` that is to follow them. */
  readonly supervisor?: StartRequest["supervisor"];
  /** Resolves when what this process has begun to listen on is listened on. */
  begun?(): Promise<unknown>;
}

/**
 * One generation of the program, from its start to its retirement: subscribes to the signals, takes over from the
 * predecessor, reloads, hands over. `onDispose` is called when the application has disposed of the token.
 *
 * @throws {ReloadError} When a signal handler cannot be set; nothing is left behind then.
 */
export function createProgram(
  adapter: Adapter,
  options: ListenOptions,
  extend: (program: ProgramContext) => readonly Extension[] = () => [],
  onDispose: () => void = () => {},
): Token {
  const emit = createReporter(adapter.pid, () => base.isCancelled, options);
  const { token: base, cancel } = createCancellation(
    adapter,
    ({ name, error }) => emit({ type: "task-fail", name, error }),
  );
  const unsubscribe = subscribe();
  const predecessor = adapter.predecessor();
  const generation = predecessor?.generation ?? 0;

  /** Are we in charge, or still waiting for the predecessor to let go? */
  let inCharge = predecessor === undefined;
  /** Is the reload over that this process came from? Until then it can be taken back, and no other may begin. */
  let settled = predecessor === undefined;
  const tookOver = Promise.withResolvers<void>();
  let isReady = false;
  /** The reload that is under way. */
  let transaction: Transaction | undefined;
  /** Reloads that were asked for while none could begin. One reload will serve them all. */
  let later: { cause: ReloadCause; outcome: PromiseWithResolvers<number> } | undefined;
  /** Who is in charge after us. */
  let successor: Successor | undefined;

  // Ours is the first listener: a new process is killed before the application hears that this one shuts down, so that it
  // cannot take the end of this process for a reason to carry on alone.
  base.signal.addEventListener("abort", () => {
    const reason = base.signal.reason;
    options.signal?.removeEventListener("abort", onOuterAbort);
    if (reason.kind === "shutdown") {
      const error = new ReloadError("cancelled", "this process is shutting down");
      transaction?.abort(error);
      if (!inCharge) succession?.failed("it is shutting down");
      else if (!settled) succession?.stopping();
      later?.outcome.reject(error);
      later = undefined;
    }
    emit({ type: "cancel", reason });
  });

  const handOver = createHandOver(options.handOver, predecessor !== undefined, adapter);
  const extensions = extendOrLeave();

  /** Nothing may be left behind of a program that cannot begin. */
  function extendOrLeave(): readonly Extension[] {
    try {
      return extend({
        pid: adapter.pid,
        runtime: adapter.runtime,
        generation,
        reloadSignals: adapter.reloadSignals,
        clock: adapter,
        options,
        token: base,
        hasPredecessor: predecessor !== undefined,
        reload: () => reload({ by: "call" }),
        emit,
      });
    } catch (error) {
      unsubscribe();
      throw error;
    }
  }
  const participants = [
    handOver.participant,
    ...extensions.flatMap(({ participants }) => participants),
    ...extensions.flatMap(({ last = [] }) => last),
  ];

  let succession: Succession | undefined;
  if (predecessor !== undefined) {
    succession = beginSuccession(predecessor, adapter.pid, participants, {
      inCharge(how) {
        inCharge = true;
        tookOver.resolve();
        emit({ type: "in-charge", generation, predecessor: how });
      },
      over() {
        settled = true;
        adapter.warmUp?.();
        serveLater();
      },
      reload: () => onReloadAsked({ by: "predecessor" }),
      shutdown: onShutdownAsked,
    });
  }

  if (options.signal?.aborted) onOuterAbort();
  else options.signal?.addEventListener("abort", onOuterAbort);

  awaitReadiness(options.ready ?? "auto");

  function noSockets(method: string): ReloadError {
    return new ReloadError("unsupported", `${method}: there are no sockets to listen on here (${adapter.runtime})`);
  }

  function subscribe(): () => void {
    const ends: (() => void)[] = [];
    const end = () => ends.splice(0).forEach((unsubscribe) => unsubscribe());
    if (!adapter.canReload) return end;
    let asked = false;
    const handlers = [
      ...(options.reloadSignals ?? adapter.reloadSignals).map((signal) =>
        [signal, () => onReloadAsked({ by: "signal", signal })] as const
      ),
      ...(options.shutdownSignals ?? adapter.shutdownSignals).map((signal) =>
        [signal, () => {
          if (asked) adapter.exit(128 + (adapter.signals[signal] ?? 0));
          asked = true;
          onShutdownAsked(signal);
        }] as const
      ),
    ];
    for (const [signal, handler] of handlers) {
      try {
        ends.push(adapter.onSignal(signal, handler));
      } catch (cause) {
        end();
        throw new ReloadError("unsupported", `listen: ${signal} cannot be handled: ${describeError(cause)}`, { cause });
      }
    }
    return end;
  }

  function onOuterAbort(): void {
    cancel({ kind: "shutdown", reason: options.signal?.reason });
  }

  function awaitReadiness(ready: "auto" | "manual" | PromiseLike<unknown>): void {
    if (ready === "manual") return;
    if (ready === "auto") {
      // Where nobody asks, a timer would only cost time.
      if (succession === undefined && participants.every(({ ready }) => ready === undefined)) return becomeReady();
      // Not before the next turn of the event loop, so that a program which throws right after listen() never counts as ready: what
      // is inherited comes in a message, later than that by itself, and the first timer takes 7 ms on Deno.
      const begun = () => Promise.all(extensions.map((extension) => extension.begun?.()));
      const turn: Promise<unknown> = succession?.inherited ?? pause(adapter, 0).then(begun);
      turn.then(becomeReady);
      return;
    }
    Promise.resolve(ready).then(becomeReady, async (error) => {
      if (!inCharge) {
        succession?.failed(describeError(error));
        await tookOver.promise; // Never, unless the predecessor is gone before it could end this process.
      }
      throw error; // Nobody else would hear of it: leave it to the runtime, as an unhandled rejection.
    });
  }

  function becomeReady(): void {
    if (isReady || base.isCancelled) return;
    isReady = true;
    if (succession !== undefined) return succession.ready();
    for (const participant of participants) participant.ready?.();
  }

  function onReloadAsked(cause: ReloadCause): void {
    if (successor !== undefined) {
      passOn(successor);
    } else if (base.isCancelled) {
      emit({ type: "reload-ignore", message: "asked to reload, but it is shutting down" });
    } else {
      reload(cause).catch(() => {}); // Reported by run().
    }
  }

  /** A supervisor that stops the process it knows means all of the program. */
  function onShutdownAsked(signal: string): void {
    const heir = successor ?? transaction?.heir;
    if (heir !== undefined) passShutdownOn(heir, signal);
    cancel({ kind: "shutdown", signal });
  }

  async function passShutdownOn({ pid, channel }: Heir, signal: string): Promise<void> {
    try {
      await channel.send(pack({ type: "shutdown", signal }));
      emit({ type: "shutdown-pass-on", pid });
    } catch {
      const message = `asked to shut down (${signal}), but it handed over to pid ${pid}, which is gone too`;
      emit({ type: "shutdown-ignore", message: `${message}: ask the process in charge` });
    }
  }

  async function passOn({ pid, channel }: Heir): Promise<void> {
    try {
      await channel.send(pack({ type: "reload" }));
      emit({ type: "reload-pass-on", pid });
    } catch {
      const message = `asked to reload, but it handed over to pid ${pid}, which is gone too: ask the process in charge`;
      emit({ type: "reload-ignore", message });
    }
  }

  async function reload(cause: ReloadCause): Promise<number> {
    if (!adapter.canReload) {
      throw new ReloadError(
        "unsupported",
        `process ${adapter.pid} cannot be reloaded: there are no signals or no processes here (${adapter.runtime})`,
      );
    }
    if (successor !== undefined || base.isCancelled) {
      const why = successor === undefined ? "it is shutting down" : `pid ${successor.pid} is in charge now`;
      throw new ReloadError("cancelled", `process ${adapter.pid} cannot reload any more: ${why}`);
    }
    if (settled && transaction === undefined) return await run(cause);
    later ??= { cause, outcome: Promise.withResolvers() };
    emit({ type: "reload-later", cause });
    return await later.outcome.promise;
  }

  async function run(cause: ReloadCause): Promise<number> {
    const begun = adapter.now();
    const next = generation + 1;
    transaction = beginTransaction({
      adapter,
      participants,
      request: {
        command: options.command,
        env: Object.assign({}, ...extensions.map(({ env }) => env), options.env),
        generation: next,
        how: extensions.find(({ start }) => start !== undefined)?.start ?? "plain",
        supervisor: extensions.find(({ supervisor }) => supervisor !== undefined)?.supervisor,
      },
      readyTimeout: options.readyTimeout ?? DEFAULT_READY_TIMEOUT,
      probation: () => options.settle ?? (participants.some((participant) => participant.isListening?.()) ? DEFAULT_SETTLE : 0),
      emit,
    });
    const current = transaction;
    emit({ type: "reload-begin", cause, generation: next });
    try {
      successor = await transaction.outcome;
    } catch (error) {
      transaction = undefined;
      const { wasInCharge } = current;
      emit({ type: "reload-fail", error: error as ReloadError, milliseconds: adapter.now() - begun, wasInCharge });
      serveLater();
      throw error;
    }
    transaction = undefined;
    const { pid, channel, context, milliseconds } = successor;
    await leave(participants, (participant) => participant.retire?.(base.signal, context), emit);
    successor.release();
    emit({ type: "reload-end", pid, generation: next, milliseconds });
    // Whatever was to be reloaded may have changed after the new process started: it reloads once more, if that was asked for.
    // It is told before the token is cancelled, because the application may end this process at once.
    const waiting = later;
    later = undefined;
    await channel.send(pack({ type: "over", reload: waiting !== undefined })).catch(() => {}); // It is gone: nobody to tell.
    waiting?.outcome.resolve(pid);
    cancel({ kind: "reload", pid, generation: next });
    return pid;
  }

  function serveLater(): void {
    if (later === undefined || base.isCancelled) return;
    const { cause, outcome } = later;
    later = undefined;
    run(cause).then(outcome.resolve, outcome.reject);
  }

  return {
    signal: base.signal,
    get isCancelled() {
      return base.isCancelled;
    },
    cancelled: base.cancelled,
    cancel: base.cancel,
    child: base.child,
    track: base.track,
    drained: base.drained,
    generation,
    canReload: adapter.canReload,
    ready: becomeReady,
    get inherited() {
      return handOver.inherited();
    },
    bind: () => Promise.reject(noSockets("bind")),
    fetch: (handler) => handler,
    path: () => Promise.reject(noSockets("path")),
    webSocket: (socket) => socket,
    ...Object.assign({}, ...extensions.map(({ members }) => members)),
    reload: () => reload({ by: "call" }),
    async [Symbol.asyncDispose]() {
      base.cancel();
      await base.drained();
      await transaction?.outcome.catch(() => {});
      unsubscribe();
      onDispose();
    },
  };
}
