import type { BasicAdapter, Predecessor } from "../core/adapter.ts";
import { type Cancellation, createCancellation } from "../core/cancellation.ts";
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
import { explainOthers, followSignal, subscribe } from "./signals.ts";
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
  /** Keeps the pid of the process in charge in a file, where that is asked for. Made at once, because it can fail. */
  readonly pidFile: Handover | undefined;
  /** As the application asked for it. A promise is followed already: a rejection is not left to the runtime while the rest is loaded. */
  readonly ready: "auto" | "manual" | Promise<unknown>;
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

/**
 * Begins a program with what it needs at once: the token, the signals, the channel to the predecessor. Everything else is loaded right after
 * the code that called `listen()`: a start does not have to wait for it, and a deploy may remove the files of this library once the program
 * is ready. What is asked for in between is done then.
 *
 * @throws {ReloadError} When a signal handler cannot be set; nothing is left behind then.
 */
export function beginProgram(adapter: BasicAdapter, options: ListenOptions, plan: ProgramPlan): BegunProgram {
  const emit = createReporter(adapter.pid, () => token.isCancelled, options);
  const live: LiveGroups = new Map();
  const wrapped = createWrappedHandlers(adapter, adapter.fetch);
  const answered = Promise.withResolvers<number>();
  const datagrams = createDatagramSockets(adapter);
  const natives = createNativeServers(adapter, () => adapter.service?.files() as Files, {
    wrap: wrapped.wrap,
    running: wrapped.running,
    answered() {
      finishRequests(token.signal.reason);
      return answered.promise;
    },
  }, datagrams);
  const { token, cancel } = createCancellation(adapter, {
    onFail: ({ name, error }) => emit({ type: "task-fail", name, error }),
    onCancel(reason) {
      wrapped.areClosing = true;
      program?.onCancel();
      // What a program has opened is drained by the part of this library that may still be loaded.
      if (program === undefined && loading !== undefined) {
        token.track(loading.catch(() => {}), { name: "a start that was not over" });
      }
      emit({ type: "cancel", reason });
      if (wrapped.exist) finishRequests(reason);
    },
  });
  let program: LoadedProgram | undefined;
  let loading: Promise<LoadedProgram> | undefined;
  let webSockets: WebSockets | undefined;

  let passedOn: Promise<unknown> | undefined;
  const settled = () => Promise.all([passedOn, loading]).then(([, program]) => program?.settled()).catch(() => {});

  let isFinishing = false;
  function finishRequests({ kind }: CancelReason): void {
    if (isFinishing) return;
    isFinishing = true;
    const timeout = options.drainTimeout ?? DEFAULT_DRAIN_TIMEOUT_MS;
    answered.resolve(token.track(
      wrapped.finish({
        isReplaced: kind === "reload",
        timeout,
        onCut: (connections) => emit({ type: "drain-cut", server: "the fetch handler", connections, milliseconds: timeout }),
      }),
      { name: "the requests of the fetch handler" },
    ));
  }

  const begun = adapter.now();
  /** Whether the program can notice that the token is cancelled. */
  let isWatched = options.onEvent !== undefined;
  let onWatch = () => {};
  let isWarned = false;
  const signals = subscribe(adapter, options, {
    reload(signal) {
      const others = isWarned ? 0 : signals.others(signal);
      isWarned = true;
      if (others > 0) beginning.warn(explainOthers(signal, others));
      const cause = { by: "signal", signal } as const;
      if (program !== undefined) program.onReloadAsked(cause);
      else load().then((program) => program.onReloadAsked(cause), () => {}); // The failure is reported by load().
    },
    shutdown(signal) {
      passedOn = program?.onShutdownAsked(signal);
      cancel({ kind: "shutdown", signal }); // Where there is no program yet.
      if (!isWatched) settled().then(() => leave(signal));
    },
  });
  const warn = (message: string) => emit({ type: "warning", message });
  const predecessor = adapter.predecessor();
  let pidFile: Handover | undefined;
  try {
    pidFile = createPidFile(adapter.service, { options, pid: adapter.pid, isFirst: predecessor === undefined, warn });
  } catch (error) {
    signals.end();
    throw error;
  }
  const beginning: Beginning = {
    pid: adapter.pid,
    options,
    token,
    cancel,
    predecessor,
    pidFile,
    wrapped,
    live,
    natives,
    datagrams,
    ready: follow(options.ready ?? "auto"),
    emit,
    warn,
  };

  function watched(): void {
    isWatched = true;
    onWatch();
  }

  /**
   * A program that never looks at its token does not end by its cancellation, and nothing of this library keeps it: the signal does what it
   * does without us. One that still starts may look later.
   */
  function leave(signal: string): void {
    if (isWatched) return;
    const left = START_MS - (adapter.now() - begun);
    if (left > 0) onWatch = adapter.timer(left, () => signals.raise(signal));
    else signals.raise(signal);
  }

  function load(): Promise<LoadedProgram> {
    if (loading === undefined) {
      loading = plan.load().then((create) => program = create(beginning));
      loading.catch((error) => {
        loading = undefined; // The next use tries again.
        beginning.warn(`the part of this library that reloads and listens cannot be loaded: ${describeError(error)}`);
      });
    }
    return loading;
  }

  natives.onOpen = () => void load(); // Also where the token is cancelled already: it has to be drained.
  // A successor is waited for. A program that is cancelled at once needs nothing more.
  if (beginning.predecessor !== undefined) load();
  else queueMicrotask(() => token.isCancelled || load());
  if (options.signal !== undefined) {
    followSignal(options.signal, token.signal, (reason) => cancel({ kind: "shutdown", reason }));
  }

  const extended = extendToken(token, watched, {
    generation: beginning.predecessor?.generation ?? 0,
    canReload: adapter.canReload,
    ready: () => void load().then((program) => program.ready(), () => {}),
    reload: async () => await (await load()).reload({ by: "call" }),
    inheritedState: async () => await (await load()).inheritedState(),
    bind: async (server, options) => await (await load()).bind(server, options),
    path: async (path) => await (await load()).path(path),
    adopt: natives.adopt,
    fetch(handler) {
      checkHandler(handler);
      wrapped.exist = true;
      return wrapped.wrap(handler);
    },
    // Its types only say what the application knows of its sockets.
    live: ((name, handlers) => addLiveGroup(live, name, handlers as LiveHandlers<unknown, unknown>)) as Token["live"],
    webSocket(socket) {
      if (typeof socket?.close !== "function") throw new TypeError(`webSocket: it must be a WebSocket, not ${show(socket)}`);
      webSockets ??= createWebSockets(token.signal);
      webSockets.add(socket);
      return socket;
    },
    async dispose() {
      token.cancel();
      await token.drained();
      await loading?.then((program) => program.settled());
      signals.end();
      plan.onDispose?.();
    },
  });
  return { token: extended, release: signals.release, settled, warn };
}

function follow(ready: NonNullable<ListenOptions["ready"]>): Beginning["ready"] {
  if (typeof ready === "string") return ready;
  const promise = Promise.resolve(ready);
  promise.catch(() => {});
  return promise;
}
