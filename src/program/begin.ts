import type { BasicAdapter, Predecessor } from "../core/adapter.ts";
import {
  type Cancellation,
  type CancellationHandlers,
  createCancellation,
} from "../core/cancellation.ts";
import { show } from "../core/check.ts";
import { describeError } from "../core/describe_error.ts";
import type { ReloadCause, ReloadEvent } from "../core/event.ts";
import type { Files } from "../core/files.ts";
import type { LiveHandlers } from "../core/live.ts";
import { DEFAULT_DRAIN_TIMEOUT_MS, type ListenOptions } from "../core/options.ts";
import { createReporter } from "../core/report.ts";
import type { CancelReason, Token } from "../core/token.ts";
import { checkHandler, createWrappedHandlers, type WrappedHandlers } from "../drain/fetch.ts";
import { createWebSockets, type WebSockets } from "../drain/web_sockets.ts";
import type { Handover } from "../reload/handover.ts";
import { createPidFile } from "../service/pid_file.ts";
import { createDatagramSockets, type DatagramSockets } from "../resources/datagram_sockets.ts";
import { createNativeServers, type NativeServers } from "../resources/native_servers.ts";
import { addLiveGroup, type LiveGroups } from "../resources/live_groups.ts";
import { explainOthers, followSignal, subscribe, type Subscriptions } from "./signals.ts";
import { extendToken } from "./token.ts";

/** How long a program may start before it looks at its token, in milliseconds. */
const START_MS = 3_000;

/** What `listen()` makes at once. */
export interface Beginning extends Cancellation {
  readonly pid: number;
  readonly options: ListenOptions;
  readonly predecessor: Predecessor | undefined;
  readonly wrapped: WrappedHandlers;
  readonly live: LiveGroups;
  readonly natives: NativeServers;
  readonly datagrams: DatagramSockets;
  /**
   * Keeps the pid of the process in charge in a file, where that is asked for. Made at once,
   * because it can fail.
   */
  readonly pidFile: Handover | undefined;
  /**
   * As the application asked for it. A promise is followed already: a rejection is not left to the
   * runtime while the rest is loaded.
   */
  readonly ready: "auto" | "manual" | Promise<unknown>;
  /** As in `NativeHost`. */
  answered(): Promise<number>;
  emit(event: ReloadEvent): void;
  /** Reports something that is not as it should be. */
  warn(message: string): void;
}

/** The rest of a program, as its beginning sees it. */
export interface LoadedProgram extends Pick<Token, "ready" | "bind" | "path"> {
  /** As {@linkcode Token.reload}. */
  reload(cause: ReloadCause): Promise<number>;
  /** As {@linkcode Token.inheritedState}. */
  inheritedState(): Promise<unknown>;
  /** A reload is asked for, and nobody waits for its outcome. */
  onReloadAsked(cause: ReloadCause): void;
  /** A signal asks for the end. Resolves when the other processes know. */
  onShutdownAsked(signal: string): Promise<unknown>;
  /** The token is cancelled. The application has not heard of it yet. */
  onCancel(): void;
  /** Resolves when no reload is under way. */
  settled(): Promise<unknown>;
}

/** A program that has begun. */
export interface BegunProgram {
  readonly token: Token;
  /** As {@linkcode Subscriptions.release}. */
  release(signal: string): void;
  /** Resolves when no reload is under way, and the other processes know of a shutdown. */
  settled(): Promise<unknown>;
  /** Reports that a reload may lose something. */
  warn(message: string): void;
}

/** How a program is completed. */
export interface ProgramPlan {
  /** Loads what makes the rest of the program. */
  load(): Promise<(beginning: Beginning) => LoadedProgram>;
  /** Called when the application has disposed of the token. */
  onDispose?(): void;
}

/** What is known of a program that has begun. */
interface Begun {
  readonly adapter: BasicAdapter;
  readonly options: ListenOptions;
  readonly plan: ProgramPlan;
  readonly beginning: Beginning;
  readonly signals: Subscriptions;
  readonly startedAt: number;
  /** The rest, once it is loaded. */
  program: LoadedProgram | undefined;
  loading: Promise<LoadedProgram> | undefined;
  /**
   * Resolves with how many requests of wrapped handlers were cut; `undefined` until they are being
   * finished.
   */
  finished: Promise<number> | undefined;
  /** Whether other listeners of the signal were looked for. */
  isWarned: boolean;
  /** Whether the program can notice that the token is cancelled. */
  isWatched: boolean;
  onWatch(): void;
  /** Resolves when a shutdown was passed on. */
  passedOn: Promise<unknown> | undefined;
  webSockets: WebSockets | undefined;
}

/**
 * Begins a program with what it needs at once: the token, the signals, the channel to the
 * predecessor. Everything else is loaded right after the code that called `listen()`: a start does
 * not have to wait for it, and a deploy may remove the files of this library once the program is
 * ready. What is asked for in between is done then.
 *
 * @throws {ReloadError} When a signal handler cannot be set; nothing is left behind then.
 */
export function beginProgram(
  adapter: BasicAdapter,
  options: ListenOptions,
  plan: ProgramPlan,
): BegunProgram {
  const cancellation: CancellationHandlers = {
    onFail: ({ name, error }) => emit({ type: "task-fail", name, error }),
    onCancel: (reason) => onCancel(begun, reason),
  };
  const { token, cancel } = createCancellation(adapter, cancellation);
  const emit = createReporter(adapter, () => token.isCancelled, options);
  const signals = subscribe(adapter, options, {
    reload: (signal) => onReloadSignal(begun, signal),
    shutdown: (signal) => onShutdownSignal(begun, signal),
  });
  let beginning: Beginning;
  try {
    const answered = () => finishRequests(begun, token.signal.reason);
    beginning = createBeginning(adapter, options, { token, cancel }, emit, answered);
  } catch (error) {
    signals.end();
    throw error;
  }
  const begun: Begun = {
    ...{ adapter, options, plan, beginning, signals, startedAt: adapter.now() },
    program: undefined,
    loading: undefined,
    finished: undefined,
    passedOn: undefined,
    webSockets: undefined,
    isWarned: false,
    isWatched: options.onEvent !== undefined,
    onWatch() {},
  };
  // Also where the token is cancelled already: it has to be drained.
  beginning.natives.onOpen = () => void load(begun);
  // A successor is waited for. A program that is cancelled at once needs nothing more.
  if (beginning.predecessor !== undefined) load(begun);
  else queueMicrotask(() => token.isCancelled || load(begun));
  adapter.threads?.follow?.((reason) => {
    cancel(reason);
    return token.drained();
  });
  if (options.signal !== undefined) {
    followSignal(options.signal, token.signal, (reason) => cancel({ kind: "shutdown", reason }));
  }
  return {
    token: createToken(begun),
    release: signals.release,
    settled: () => settled(begun),
    warn: beginning.warn,
  };
}

/** Makes what the rest of the program begins with. */
function createBeginning(
  adapter: BasicAdapter,
  options: ListenOptions,
  cancellation: Cancellation,
  emit: Beginning["emit"],
  answered: Beginning["answered"],
): Beginning {
  const warn = (message: string) => emit({ type: "warning", message });
  const wrapped = createWrappedHandlers(adapter, adapter.fetch);
  const datagrams = createDatagramSockets(adapter);
  const host = { wrap: wrapped.wrap, running: wrapped.running, answered };
  const { pid } = adapter;
  const predecessor = adapter.predecessor();
  const natives = createNativeServers(
    adapter,
    () => adapter.service?.files() as Files,
    host,
    datagrams,
    () => cancellation.token.isCancelled,
  );
  return {
    ...{ pid, options, ...cancellation, predecessor, wrapped, datagrams, answered, emit, warn },
    pidFile: createPidFile(adapter.service, {
      options,
      pid,
      isFirst: predecessor === undefined,
      warn,
    }),
    live: new Map(),
    natives,
    ready: follow(options.ready ?? "auto"),
  };
}

/** The token is cancelled. The application has not heard of it yet. */
function onCancel(begun: Begun, reason: CancelReason): void {
  const { adapter, program, loading, beginning: { token, wrapped, emit } } = begun;
  wrapped.areClosing = true;
  program?.onCancel();
  // What a program has opened is drained by the part of this library that may still be loaded.
  if (program === undefined && loading !== undefined) {
    token.track(loading.catch(() => {}), { name: "a start that was not over" });
  }
  emit({ type: "cancel", reason });
  const others = adapter.threads?.end?.(reason);
  if (others !== undefined) token.track(others, { name: "the other threads" });
  if (wrapped.exist) finishRequests(begun, reason);
}

/**
 * Waits for the requests that the wrapped handlers are answering, and cuts those that take too
 * long.
 */
function finishRequests(begun: Begun, { kind }: CancelReason): Promise<number> {
  const { options, beginning: { token, wrapped, emit } } = begun;
  if (begun.finished !== undefined) return begun.finished;
  const timeout = options.drainTimeout ?? DEFAULT_DRAIN_TIMEOUT_MS;
  const finished = wrapped.finish({
    isReplaced: kind === "reload",
    timeout,
    onCut: (connections) =>
      emit({ type: "drain-cut", server: "the fetch handler", connections, milliseconds: timeout }),
  });
  return begun.finished = token.track(finished, { name: "the requests of the fetch handler" });
}

function onReloadSignal(begun: Begun, signal: string): void {
  const { program, signals, beginning: { warn } } = begun;
  const others = begun.isWarned ? 0 : signals.others(signal);
  begun.isWarned = true;
  if (others > 0) warn(explainOthers(signal, others));
  const cause = { by: "signal", signal } as const;
  if (program !== undefined) program.onReloadAsked(cause);
  else load(begun).then((program) => program.onReloadAsked(cause), () => {}); // The failure is reported by load().
}

function onShutdownSignal(begun: Begun, signal: string): void {
  begun.passedOn = begun.program?.onShutdownAsked(signal);
  begun.beginning.cancel({ kind: "shutdown", signal }); // Where there is no program yet.
  if (!begun.isWatched) settled(begun).then(() => leave(begun, signal));
}

/** Resolves when no reload is under way, and the other processes know of a shutdown. */
function settled({ passedOn, loading }: Begun): Promise<unknown> {
  return Promise.all([passedOn, loading]).then(([, program]) => program?.settled()).catch(() => {});
}

/**
 * A program that never looks at its token does not end by its cancellation, and nothing of this
 * library keeps it: the signal does what it does without us. One that still starts may look later.
 */
function leave(begun: Begun, signal: string): void {
  const { adapter, signals, startedAt } = begun;
  if (begun.isWatched) return;
  const left = START_MS - (adapter.now() - startedAt);
  if (left > 0) begun.onWatch = adapter.timer(left, () => signals.raise(signal));
  else signals.raise(signal);
}

/** Loads the rest of the program, once. */
function load(begun: Begun): Promise<LoadedProgram> {
  if (begun.loading === undefined) {
    begun.loading = begun.plan.load().then((create) => begun.program = create(begun.beginning));
    begun.loading.catch((error) => {
      begun.loading = undefined; // The next use tries again.
      begun.beginning.warn(
        `the part of this library that reloads and listens cannot be loaded: ${
          describeError(error)
        }`,
      );
    });
  }
  return begun.loading;
}

/** The token that the application gets. */
function createToken(begun: Begun): Token {
  const { adapter, plan, signals, beginning: { token, predecessor, natives, wrapped, live } } =
    begun;
  function watched(): void {
    begun.isWatched = true;
    begun.onWatch();
  }
  const rest = () => load(begun);
  return extendToken(token, watched, {
    generation: predecessor?.generation ?? 0,
    canReload: adapter.canReload,
    ready: () => void rest().then((program) => program.ready(), () => {}),
    reload: async () => await (await rest()).reload({ by: "call" }),
    inheritedState: async () => await (await rest()).inheritedState(),
    bind: async (server, options) => await (await rest()).bind(server, options),
    path: async (path) => await (await rest()).path(path),
    adopt: natives.adopt,
    fetch(handler) {
      checkHandler(handler);
      wrapped.exist = true;
      return wrapped.wrap(handler);
    },
    // Its types only describe what the application knows of its sockets.
    live: ((name, handlers) =>
      addLiveGroup(live, name, handlers as LiveHandlers<unknown, unknown>)) as Token["live"],
    webSocket(socket) {
      if (typeof socket?.close !== "function") {
        throw new TypeError(`webSocket: it must be a WebSocket, not ${show(socket)}`);
      }
      begun.webSockets ??= createWebSockets(token.signal);
      begun.webSockets.add(socket);
      return socket;
    },
    async dispose() {
      token.cancel();
      await token.drained();
      await begun.loading?.then((program) =>
        program.settled()
      );
      signals.end();
      plan.onDispose?.();
    },
  });
}

function follow(ready: NonNullable<ListenOptions["ready"]>): Beginning["ready"] {
  if (typeof ready === "string") return ready;
  const promise = Promise.resolve(ready);
  promise.catch(() => {});
  return promise;
}
