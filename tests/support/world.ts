import assert from "node:assert/strict";
import type {
  Adapter,
  Channel,
  ExitStatus,
  StartedProcess,
  StartRequest,
} from "../../src/core/adapter.ts";
import { ReloadError } from "../../src/core/error.ts";
import type { ReloadEvent } from "../../src/core/event.ts";
import type { ListenOptions } from "../../src/core/options.ts";
import type { Handover } from "../../src/reload/handover.ts";
import { composeProgram } from "../../src/program/compose.ts";
import { withoutSockets } from "../../src/sockets/sockets.ts";
import { beginProgram } from "../../src/program/begin.ts";
import { createProgram } from "../../src/program/program.ts";
import type { Token } from "../../src/core/token.ts";

/** A process of the simulated world. It exists from its start, and listens from its boot. */
export interface SimulatedProcess {
  readonly pid: number;
  readonly generation: number;
  /** The step of the world in which it was started. */
  readonly startedAt: number;
  readonly parent: SimulatedProcess | undefined;
  /** What it was started with. */
  readonly request: StartRequest | undefined;
  readonly events: ReloadEvent[];
  readonly adapter: Adapter;
  token: Token | undefined;
  inCharge: boolean;
  exit: ExitStatus | undefined;
  /** Has its parent been told of its end? */
  reaped: boolean;
  /** Does its parent stay alive for it? */
  released: boolean;
  timers: number;
  holds: number;
  /** The exit code it asked the runtime for. */
  exitAsked: number | undefined;
}

interface Wire {
  readonly to: SimulatedProcess;
  deliver(): boolean;
}

/**
 * Processes, signals, channels and time, without any of them: everything happens when a test says
 * so.
 */
export interface World {
  readonly processes: readonly SimulatedProcess[];
  /** What was found wrong when it happened; the library survives an onEvent that throws. */
  readonly violations: unknown[];
  /** Counts what a test has done. */
  step: number;
  /** Starts generation 0. */
  begin(): SimulatedProcess;
  /** Lets a started process call listen(). */
  boot(process: SimulatedProcess): void;
  signal(process: SimulatedProcess, signal: string): void;
  end(process: SimulatedProcess, exit: ExitStatus): void;
  /** Says something over the channel to the process's parent. */
  say(process: SimulatedProcess, message: unknown): void;
  /** Says something over the channel from the process's parent. */
  tell(process: SimulatedProcess, message: unknown): void;
  /**
   * Delivers the next message, or the closing, of the n-th channel that has one. Returns whether
   * there was one.
   */
  deliver(n: number): boolean;
  /**
   * Delivers the next message, or the closing, to one process only. Returns whether there was one.
   */
  deliverTo(process: SimulatedProcess): boolean;
  /** Lets time pass until the next timer, and calls it. Returns whether there was one. */
  tick(): Promise<boolean>;
  /** Lets time pass. The timers that are due are called by `tick`. */
  pass(milliseconds: number): void;
  /** Lets everything happen that needs nobody's help. */
  settle(): Promise<void>;
}

export interface WorldOptions {
  options?: ListenOptions;
  handovers?: (process: SimulatedProcess) => Handover[];
  /**
   * What a process has besides the core of an adapter. Then the handovers are those of the library.
   */
  machine?: (process: SimulatedProcess) => Pick<Adapter, "sockets" | "service">;
  /** Called when a process has called listen(). */
  onBoot?: (process: SimulatedProcess) => void;
  /** Called when a process has ended. */
  onEnd?: (process: SimulatedProcess, exit: ExitStatus) => void;
  /** Told of every event. */
  onEvent?: (process: SimulatedProcess, event: ReloadEvent) => unknown;
  /** Runs before a start, which fails when it throws. */
  start?: (request: StartRequest) => void;
}

/** An empty world. */
export function createWorld(
  { options = {}, handovers = () => [], start, machine, onBoot, onEnd, onEvent }: WorldOptions = {},
): World {
  const processes: SimulatedProcess[] = [];
  const wires: Wire[] = [];
  const handlers = new Map<SimulatedProcess, Map<string, () => void>>();
  const toParent = new Map<SimulatedProcess, Channel>();
  const fromParent = new Map<SimulatedProcess, Channel>();
  const onExit = new Map<SimulatedProcess, (exit: ExitStatus) => void>();
  let timers: { at: number; owner: SimulatedProcess; callback: () => void }[] = [];
  let now = 0;
  let nextPid = 100;

  function spawn(
    parent: SimulatedProcess | undefined,
    request: StartRequest | undefined,
  ): SimulatedProcess {
    const pid = nextPid++;
    const process: SimulatedProcess = {
      pid,
      generation: request?.generation ?? 0,
      startedAt: world.step,
      parent,
      request,
      events: [],
      token: undefined,
      inCharge: parent === undefined,
      exit: undefined,
      reaped: false,
      released: false,
      timers: 0,
      holds: 0,
      exitAsked: undefined,
      adapter: {
        runtime: "a simulated world",
        pid,
        canReload: true,
        signals: { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 },
        reloadSignals: ["SIGHUP"],
        shutdownSignals: ["SIGINT", "SIGTERM"],
        nativeOffer: request?.native,
        now: () => now,
        timer(milliseconds, callback) {
          const timer = { at: now + milliseconds, owner: process, callback };
          timers.push(timer);
          process.timers++;
          return () => {
            if (!timers.includes(timer)) return;
            timers = timers.filter((other) => other !== timer);
            process.timers--;
          };
        },
        hold() {
          process.holds++;
          return () => process.holds--;
        },
        onSignal(signal, handler) {
          handlers.get(process)?.set(signal, handler);
          return () => handlers.get(process)?.delete(signal);
        },
        predecessor() {
          const channel = toParent.get(process);
          return channel && { generation: process.generation, channel };
        },
        start: async (request) => {
          await Promise.resolve();
          request.signal.throwIfAborted();
          start?.(request);
          return startChild(process, request);
        },
        exit(code) {
          process.exitAsked = code;
          world.end(process, { code, signal: null });
        },
      },
    };
    handlers.set(process, new Map());
    processes.push(process);
    Object.assign(process.adapter, machine?.(process));
    return process;
  }

  function startChild(parent: SimulatedProcess, request: StartRequest): StartedProcess {
    const child = spawn(parent, request);
    const [ours, theirs] = connect(parent, child);
    toParent.set(child, theirs);
    fromParent.set(child, ours);
    const exited = new Promise<ExitStatus>((resolve) => onExit.set(child, resolve));
    return {
      pid: child.pid,
      channel: ours,
      exited,
      kill: () => world.end(child, { code: null, signal: "SIGKILL" }),
      disown: () => Promise.resolve(false),
      release: () => child.released = true,
    };
  }

  /**
   * Two ends of a channel. A message waits until it is delivered, and a closing comes after the
   * messages before it.
   */
  function connect(a: SimulatedProcess, b: SimulatedProcess): [Channel, Channel] {
    const end = (me: SimulatedProcess, other: SimulatedProcess) => {
      const queue: unknown[] = []; // on the way to me
      const closings: (() => void)[] = [];
      let receive: ((message: unknown, handle?: unknown) => void) | undefined;
      let isClosed = false;
      wires.push({
        to: me,
        deliver() {
          if (me.exit !== undefined) return false;
          if (queue.length > 0 && receive !== undefined) {
            receive(...queue.shift() as [message: unknown, handle: unknown]);
            return true;
          }
          if (other.exit === undefined || isClosed || queue.length > 0) return false;
          isClosed = true;
          for (const closed of closings) closed();
          return true;
        },
      });
      return {
        queue,
        channel: (deliverTo: unknown[]): Channel => ({
          sendsHandles: b.request?.sendsSockets === true,
          handlesTravelAlone: false,
          send(message, handle) {
            if (handle !== undefined && b.request?.sendsSockets !== true) {
              return Promise.reject(new ReloadError("start", "no socket can be sent"));
            }
            if (me.exit !== undefined) return new Promise(() => {});
            if (other.exit !== undefined) return Promise.reject(new Error("closed"));
            deliverTo.push([structuredClone(message), handle]);
            return Promise.resolve();
          },
          onMessage: (handler) => receive = handler,
          onClose(callback) {
            if (isClosed) queueMicrotask(callback);
            else closings.push(callback);
          },
        }),
      };
    };
    const endA = end(a, b);
    const endB = end(b, a);
    return [endA.channel(endB.queue), endB.channel(endA.queue)];
  }

  const world: World = {
    processes,
    violations: [],
    step: 0,
    begin() {
      const process = spawn(undefined, undefined);
      world.boot(process);
      return process;
    },
    boot(process) {
      if (process.exit !== undefined || process.token !== undefined) return;
      const { token } = beginProgram(process.adapter, {
        ready: "manual",
        readyTimeout: 1000,
        logger: { info() {}, warn() {}, error() {} },
        ...options,
        onEvent(event) {
          process.events.push(event);
          if (event.type === "in-charge") process.inCharge = true;
          onEvent?.(process, event);
          try {
            check(process, event);
          } catch (error) {
            world.violations.push(error);
          }
        },
      }, {
        load: () =>
          Promise.resolve((beginning) =>
            machine !== undefined
              ? composeProgram(process.adapter, beginning)
              : createProgram(process.adapter, beginning, () => ({
                ...withoutSockets("a simulated world"),
                handovers: handovers(process),
                inheritedState: () => Promise.resolve(),
                env: {},
                how: "plain",
                supervisor: undefined,
              }))
          ),
      });
      process.token = token;
      onBoot?.(process);
      token.cancelled(); // as a program does that waits for its end
    },
    signal(process, signal) {
      if (process.exit !== undefined) return;
      const handler = handlers.get(process)?.get(signal);
      if (handler === undefined) world.end(process, { code: null, signal }); // The default action.
      else handler();
    },
    end(process, exit) {
      if (process.exit !== undefined) return;
      process.exit = exit;
      timers = timers.filter(({ owner }) => owner !== process);
      onEnd?.(process, exit);
      queueMicrotask(() => {
        process.reaped = true;
        if (process.parent?.exit === undefined) onExit.get(process)?.(exit);
      });
    },
    say(process, message) {
      toParent.get(process)?.send(message).catch(() => {});
    },
    tell(process, message) {
      fromParent.get(process)?.send(message).catch(() => {});
    },
    deliver(n) {
      for (let i = 0; i < wires.length; i++) {
        if (wires[(n + i) % wires.length]?.deliver()) return true;
      }
      return false;
    },
    deliverTo: (process) => wires.some((wire) => wire.to === process && wire.deliver()),
    async tick() {
      const next = timers.reduce(
        (first, timer) => first === undefined || timer.at < first.at ? timer : first,
        timers[0],
      );
      if (next === undefined) return false;
      // A process that was frozen notices the time before the messages. But a timer that was set
      // when some time was over already comes after them.
      if (now > 0 && next.at - now <= 1000) {
        for (const wire of wires) while (wire.to === next.owner && wire.deliver());
        await world.settle();
        if (!timers.includes(next)) return true;
      }
      now = Math.max(now, next.at);
      timers = timers.filter((timer) => timer !== next);
      next.owner.timers--;
      next.callback();
      return true;
    },
    pass: (milliseconds) => void (now += milliseconds),
    settle: () => new Promise((resolve) => setImmediate(resolve)),
  };

  /** What must hold when a process says that something has happened. */
  function check(process: SimulatedProcess, event: ReloadEvent): void {
    if (event.type === "warning") assert.doesNotMatch(event.message, /a defect of reload-self/);
    if (event.type === "cancel" && event.reason.kind === "reload") {
      const { pid } = event.reason;
      const successor = processes.find((other) => other.pid === pid);
      assert.ok(successor?.inCharge, `process ${process.pid} left before ${pid} was in charge`);
    }
    if (event.type === "cancel" && event.reason.kind === "shutdown") {
      // One that was told to take charge is asked to shut down as well.
      const inCharge = process.events.flatMap((event) =>
        event.type === "successor-ready" ? [event.pid] : []
      );
      const left = waitingChildren(process).filter((pid) => !inCharge.includes(pid));
      assert.deepEqual(
        left,
        [],
        `process ${process.pid} shuts down and leaves a new process behind`,
      );
    }
    if (event.type === "reload-fail") {
      const error: ReloadError = event.error;
      const failed = processes.find((other) => other.pid === error.pid);
      assert.ok(
        failed === undefined || failed.reaped,
        `process ${error.pid} was not reaped before the reload was over`,
      );
      const isShutdown = process.token?.isCancelled === true &&
        process.token.signal.reason.kind === "shutdown";
      assert.ok(
        !process.token?.isCancelled || isShutdown,
        `process ${process.pid} lost its token by a failed reload`,
      );
    }
    if (event.type === "reload-begin") {
      assert.deepEqual(
        waitingChildren(process),
        [],
        `process ${process.pid} began a second reload at the same time`,
      );
    }
  }

  function waitingChildren(process: SimulatedProcess): number[] {
    return processes.filter((child) =>
      child.parent === process && child.exit === undefined && !child.released
    )
      .map(({ pid }) => pid);
  }

  return world;
}

/** A reload of the world's first process whose new process is in charge. */
export interface ReloadInCharge {
  readonly world: World;
  readonly old: SimulatedProcess;
  readonly child: SimulatedProcess;
  /** What has come of the reload: the pid, or the error. */
  readonly outcome: Promise<unknown>;
}

/** Reloads, up to the moment in which the new process is in charge. */
export async function reloadInCharge(world: World): Promise<ReloadInCharge> {
  const old = world.begin();
  const outcome = old.token?.reload().catch((error) => error) as Promise<unknown>;
  await world.settle();
  const child = world.processes.at(-1) as SimulatedProcess;
  world.boot(child);
  child.token?.ready();
  await deliverMessages(world);
  assert.ok(child.inCharge);
  return { world, old, child, outcome };
}

/** Delivers all messages, one after the other. */
export async function deliverMessages(world: World): Promise<void> {
  do await world.settle(); while (world.deliver(0));
}

/** Delivers all messages, and checks what must hold then. */
export async function deliverAll(world: World): Promise<void> {
  await deliverMessages(world);
  checkWorld(world);
}

/** What must hold whenever nothing happens by itself. */
export function checkWorld({ processes, violations }: World): void {
  if (violations.length > 0) throw violations[0];
  for (const process of processes) {
    if (process.exit !== undefined || process.token === undefined) continue;
    const children = processes.filter((child) => child.parent === process);
    const waiting = children.filter((child) => !child.reaped && !child.released);
    assert.ok(waiting.length <= 1, `process ${process.pid} has several reloads under way`);
    const isReloading = isUnderWay(process);
    if (isReloading) continue;
    assert.equal(waiting.length, 0, `process ${process.pid} has a child that it does not wait for`);
    assert.ok(
      process.timers <= expectedTimers(process),
      `process ${process.pid} has a timer left over`,
    );
    if (process.token.isCancelled) {
      assert.equal(process.holds, 0, `process ${process.pid} is kept alive after its end`);
    }
  }
}

/**
 * How many timers a process may have that has nothing to do: one that has been replaced stays for a
 * moment.
 */
export function expectedTimers({ token }: SimulatedProcess): number {
  return token?.isCancelled && token.signal.reason.kind === "reload" ? 1 : 0;
}

/** Is a reload of this process under way? */
export function isUnderWay(process: SimulatedProcess): boolean {
  const count = (type: ReloadEvent["type"]) =>
    process.events.filter((event) => event.type === type).length;
  return count("reload-begin") > count("reload-end") + count("reload-fail");
}
