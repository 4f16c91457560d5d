import type {
  Adapter,
  BasicAdapter,
  OtherHandlers,
  Predecessor,
  StartAdapter,
} from "../../src/core/adapter.ts";
import { clock } from "../shared/clock.ts";
import { type Handshake, takeHandshake } from "../../src/protocol/handshake.ts";
import { createRaising, platformSignals } from "../shared/signals.ts";
import type { Snapshot } from "../shared/environment.ts";
import { basicService, isAlive, readProc, workingDirectory } from "../shared/node_basic_service.ts";
import { inheritedChannel, type NodeProcess } from "../shared/node_channel.ts";

/** The start of Node's adapter, and what the rest is made of. */
export interface NodeStart {
  readonly adapter: Omit<StartAdapter, "loadRest">;
  readonly process: NodeProcess;
  readonly snapshot: Snapshot;
  readonly handshake: Partial<Handshake>;
}

/**
 * The adapter for Node. It needs no permission; under Node's permission model (`--permission`) a
 * reload needs `--allow-child-process`, and `--allow-fs-read=/` to start from a flipped symbolic
 * link.
 *
 * @param isMainThread A worker thread cannot be reloaded.
 */
export function createNodeAdapter(process: NodeProcess, isMainThread: boolean): StartAdapter {
  const begun = startNode(process, "Node", isMainThread);
  // Node loads `performance` at its first use, which takes 1 to 2 ms of a start.
  const now = () => {
    const [seconds, nanoseconds] = process.hrtime();
    return seconds * 1_000 + nanoseconds / 1_000_000;
  };
  const writing = createWriting(process);
  const start: NodeStart = { ...begun, adapter: { ...begun.adapter, now, writing } };
  return {
    ...start.adapter,
    loadRest: async (): Promise<Adapter> =>
      (await import("./complete.ts")).completeNodeAdapter(start),
  };
}

/**
 * Node ends a process for an error of stdout or stderr that has no listener: a line about a reload
 * is no reason for it. The error of a pipe or a terminal comes before the next turn.
 */
function createWriting(process: NodeProcess): (write: () => void) => void {
  const ignore = () => {};
  const streams = () => [process.stdout, process.stderr]; // Node makes them at their first use.
  let isListening = false;
  function listen(): void {
    isListening = true;
    for (const stream of streams()) stream.on("error", ignore);
    setImmediate(() => {
      isListening = false;
      for (const stream of streams()) stream.off("error", ignore);
    });
  }
  return (write) => {
    if (!isListening) listen();
    write();
  };
}

/**
 * The signals of the process. A preload may put the program's handlers aside: these methods stay
 * the ones of the process.
 */
function nodeSignals(
  process: NodeProcess,
  raise: OtherHandlers["raise"],
): Required<Pick<BasicAdapter, "onSignal" | "otherHandlers">> {
  const [on, off, listenerCount] = [process.on, process.off, process.listenerCount].map((method) =>
    method.bind(process)
  ) as [
    typeof process.on,
    typeof process.off,
    typeof process.listenerCount,
  ];
  /** How many listeners of a signal are this library's. */
  const own = new Map<string, number>();
  const count = (signal: string, more: number) => own.set(signal, (own.get(signal) ?? 0) + more);
  const others = (signal: string) => listenerCount(signal) - (own.get(signal) ?? 0);
  return {
    onSignal(signal, handler) {
      on(signal, handler);
      count(signal, 1);
      return () => {
        off(signal, handler);
        count(signal, -1);
      };
    },
    otherHandlers: { count: others, isHandled: (signal) => others(signal) > 0, raise },
  };
}

/** Everything that cannot wait, for Node and Bun. */
export function startNode(
  process: NodeProcess,
  runtime: "Node" | "Bun",
  isMainThread: boolean,
): NodeStart {
  const { env } = process;
  const variables = {
    get: (name: string) => env[name],
    delete: (name: string) => delete env[name],
  };
  const handshake: Partial<Handshake> = isMainThread
    ? takeHandshake(variables, { parent: process.ppid, isAlive: (pid) => isAlive(process, pid) })
    : {};
  const { generation } = handshake;
  // Bun has no title that overwrites it, and takes 2 ms to load node:fs: there it is read later.
  const read = (name: string) =>
    runtime === "Node" && isMainThread ? readProc(process, "self", name) : undefined;
  const snapshot = {
    cwd: workingDirectory(process),
    loaded: { ...env },
    cmdline: read("cmdline"),
    environ: read("environ"),
  };
  const platform = platformSignals(process.platform);
  const { onExit, raise } = createRaising(
    (handler) => process.on("exit", handler),
    (signal) => process.platform !== "win32" && process.kill(process.pid, signal),
    (signal) => process.exit(128 + (platform.signals[signal] ?? 0)),
  );
  const signals = nodeSignals(process, raise);
  let predecessor: Predecessor | undefined;
  return {
    process,
    snapshot,
    handshake,
    adapter: {
      ...clock,
      ...platform,
      ...signals,
      runtime,
      pid: process.pid,
      canReload: isMainThread,
      isSuccessor: generation !== undefined && process.send !== undefined,
      predecessor() {
        handshake.takeRest?.();
        return predecessor ??= generation === undefined
          ? undefined
          : inheritedChannel(process, generation, {
            sendsHandles: true,
            handlesTravelAlone: false,
          });
      },
      exit: (code) => process.exit(code),
      service: isMainThread ? basicService(process, snapshot.loaded, onExit) : undefined,
      nativeOffer: handshake.native,
    },
  };
}
