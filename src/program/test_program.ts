/**
 * A program whose reload is a call: everything of this process is real, there is no other process.
 * For the tests of programs.
 */
import type { Adapter, BasicAdapter, Channel, StartAdapter } from "../core/adapter.ts";
import { describeError } from "../core/describe_error.ts";
import { ReloadError } from "../core/error.ts";
import type { ReloadCause } from "../core/event.ts";
import { isNative } from "../core/native_socket.ts";
import type { ListenOptions } from "../core/options.ts";
import { pause } from "../core/pause.ts";
import type { BasicServiceAdapter } from "../core/service_adapter.ts";
import type { ConnectionAdapter } from "../core/socket_adapter.ts";
import type { Token } from "../core/token.ts";
import type { ProgramContext } from "../reload/context.ts";
import { type Beginning, beginProgram, type LoadedProgram } from "./begin.ts";
import { compose } from "./compose.ts";
import { awaitReadiness } from "./readiness.ts";
import { stateAsText } from "./state.ts";

/** What a connection was when the application let go of it. */
export interface ReleasedConnection {
  /** The name of its `token.live()`. */
  readonly name: string;
  /** What `release` has returned, as the next generation would get it. */
  readonly session: unknown;
}

/** What the next generation would get. */
export interface Inheritance {
  /** What `saveState` has returned, as `token.inheritedState` would have it. */
  readonly state: unknown;
  /**
   * The connections of `token.live()`. They are closed: there is no process in which they could go
   * on.
   */
  readonly live: readonly ReleasedConnection[];
}

/** How such a program begins. */
export interface TestPlan {
  readonly options: ListenOptions;
  readonly generation: number;
  readonly inheritedState: unknown;
  /** Stands for the new process: when it throws or rejects, the reload fails. */
  readonly onReload: ((inheritance: Inheritance) => unknown) | undefined;
}

/** A program that has begun. */
export interface TestProgram {
  readonly token: Token;
  /** Resolves when the program is ready. */
  readonly ready: Promise<void>;
  reload(): Promise<Inheritance>;
  shutdown(signal: string): Promise<void>;
}

/** A channel to nobody. */
const SILENT: Channel = {
  sendsHandles: false,
  handlesTravelAlone: false,
  send: () => Promise.resolve(),
  onMessage() {},
  onClose() {},
};

/** Worker threads have no service. */
const WITHOUT_FILES = {
  files() {
    throw new ReloadError(
      "unsupported",
      "adopt: in a worker thread a server of a test cannot listen on a path; give it a port",
    );
  },
} as Partial<BasicServiceAdapter> as BasicServiceAdapter;

/** A value as it comes out of another process. */
function copied(value: unknown): unknown {
  const text = JSON.stringify(value);
  return text === undefined ? undefined : JSON.parse(text);
}

/** The runtime without its signals, processes and files of a service. */
function detached(real: StartAdapter, generation: number): BasicAdapter {
  const { now, timer, hold } = real;
  return {
    now,
    timer,
    hold,
    runtime: real.runtime,
    pid: real.pid,
    canReload: true,
    signals: real.signals,
    reloadSignals: real.reloadSignals,
    shutdownSignals: real.shutdownSignals,
    onSignal: () => () => {},
    predecessor: () => generation > 0 ? { generation, channel: SILENT } : undefined,
    exit() {},
    fetch: real.fetch,
    service: real.service ?? WITHOUT_FILES,
    native: real.native,
  };
}

/** Begins a program. As many as a test likes may exist at the same time. */
export function beginTestProgram(real: StartAdapter, plan: TestPlan): TestProgram {
  const adapter = detached(real, plan.generation);
  const ready = Promise.withResolvers<void>();
  ready.promise.catch(() => {}); // A test that does not await it looks at something else.
  let program: LoadedTestProgram | undefined;
  const { token } = beginProgram(adapter, { idleGrace: 0, ...plan.options, pidFile: undefined }, {
    load: () =>
      real.loadRest().then(({ sockets }) => (beginning) =>
        program = createTestProgram(plan, { ...adapter, sockets } as Adapter, beginning, ready)
      ),
  });
  return {
    token,
    ready: ready.promise,
    async reload() {
      await token.inheritedState; // Loads the program, where that has not happened yet.
      return await (program as LoadedTestProgram).inherit({
        by: "signal",
        signal: adapter.reloadSignals[0] as string,
      });
    },
    async shutdown(signal) {
      await token.inheritedState;
      await program?.onShutdownAsked(signal);
    },
  };
}

interface LoadedTestProgram extends LoadedProgram {
  inherit(cause: ReloadCause): Promise<Inheritance>;
}

function createTestProgram(
  { generation, inheritedState, onReload }: TestPlan,
  adapter: Adapter,
  beginning: Beginning,
  isReady: PromiseWithResolvers<void>,
): LoadedTestProgram {
  const { cancel, token } = beginning;
  const { pid, runtime, reloadSignals } = adapter;
  const state = Promise.resolve(copied(inheritedState));
  const program: ProgramContext = {
    ...beginning,
    runtime,
    generation,
    reloadSignals,
    clock: adapter,
    hasPredecessor: false,
    arrived: Promise.resolve(),
    reload: () => reload({ by: "call" }),
  };
  const { members, listening } = compose({ ...adapter, service: undefined }, program, undefined);
  let current: Promise<Inheritance> | undefined;

  const ready = awaitReadiness({
    ready: beginning.ready,
    automatic: pause(adapter, 0).then(listening),
    onReady: isReady.resolve,
    onFail: (error) => Promise.resolve(isReady.reject(error)),
  });

  async function reload(cause: ReloadCause): Promise<number> {
    await inherit(cause);
    return pid;
  }

  function inherit(cause: ReloadCause): Promise<Inheritance> {
    if (token.isCancelled) {
      return Promise.reject(
        new ReloadError(
          "cancelled",
          `process ${pid} cannot reload any more: its token is cancelled`,
        ),
      );
    }
    return current ??= hand(program, adapter, { cause, onReload, cancel }).finally(() =>
      current = undefined
    );
  }

  return {
    ...members,
    inheritedState: () => state,
    ready,
    reload,
    inherit,
    onReloadAsked: (cause) => void inherit(cause).catch(() => {}),
    onShutdownAsked: (signal) => Promise.resolve(cancel({ kind: "shutdown", signal })),
    onCancel() {},
    settled: async () => await current?.catch(() => {}),
  };
}

/** What one reload of a test does. */
interface TestReload {
  readonly cause: ReloadCause;
  readonly onReload: TestPlan["onReload"];
  cancel: Beginning["cancel"];
}

/**
 * Hands over to nobody: takes the state and the live connections as a reload does, and cancels the
 * token.
 */
async function hand(
  program: ProgramContext,
  { now, sockets }: Adapter,
  { cause, onReload, cancel }: TestReload,
): Promise<Inheritance> {
  const { emit, options, token, pid, generation } = program;
  const begun = now();
  const next = { pid, generation: generation + 1 };
  emit({ type: "reload-begin", cause, generation: next.generation });
  const released = release(program, sockets?.connections);
  try {
    const state = await handedOver("the state", async () => await stateAsText(options.saveState));
    const live = released.map(({ name, session }) => ({ name, session }));
    const inheritance = { state: state && JSON.parse(state), live };
    await handedOver("the new process", async () => await onReload?.(inheritance));
    if (token.isCancelled) throw new ReloadError("cancelled", "this process is shutting down");
    emit({ type: "reload-end", ...next, milliseconds: now() - begun });
    cancel({ kind: "reload", ...next });
    for (const { close } of released) close();
    return inheritance;
  } catch (error) {
    for (const { giveBack } of released) giveBack();
    emit({
      type: "reload-fail",
      error: error as ReloadError,
      milliseconds: now() - begun,
      wasInCharge: false,
    });
    throw error;
  }
}

async function handedOver<T>(what: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (cause instanceof ReloadError) throw cause;
    throw new ReloadError("handover", `${what} could not be handed over: ${describeError(cause)}`, {
      cause,
    });
  }
}

interface Released extends ReleasedConnection {
  close(): void;
  giveBack(): void;
}

/**
 * Lets the application let go of its connections of node:net, as far as it does at this moment.
 * WebSockets of a runtime are closed with 1001.
 */
function release({ live }: ProgramContext, connections: ConnectionAdapter | undefined): Released[] {
  if (connections === undefined) return [];
  return [...live.values()].flatMap((group) =>
    [...group.sockets].filter((socket) => !isNative(socket) && !socket.destroyed).flatMap(
      (socket) => {
        connections.stop(socket);
        const session = group.release(socket, false);
        if (session === undefined) {
          connections.start(socket);
          return [];
        }
        return [{
          name: group.name,
          session: session instanceof Uint8Array ? session : copied(session),
          close: () => void socket.destroy(),
          giveBack() {
            group.serve(socket, session);
            connections.start(socket);
          },
        }];
      },
    )
  );
}
