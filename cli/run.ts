/** `reload-self run`: a parent with a constant pid, for containers and supervisors. */
import { accessSync, constants, mkdtempSync, readdirSync, rmSync, watch } from "node:fs";
import { constants as os, tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import type { CheckOrder } from "../src/core/service_adapter.ts";
import {
  acceptSockets,
  type KeptSocket,
  listenForOthers,
  service,
  type SocketRequest,
} from "../adapters/tools/machine.ts";
import { SOCKET } from "../src/protocol/instances.ts";
import { attempt } from "../src/core/attempt.ts";
import { describeError } from "../src/core/describe_error.ts";
import { Failure } from "./options.ts";
import { Instance, kill, REAPER_VARIABLE } from "./instance.ts";
import type { BeginTriggers } from "./triggers.ts";
import { Coordinator } from "./coordinator.ts";
import { statusFile } from "../src/protocol/status.ts";

/** The options of `reload-self run`. */
export interface RunOptions {
  /** Milliseconds from the shutdown signal until all remaining processes are killed. */
  stopTimeout: number;
  /** The number of crashes in a row after which it gives up. */
  maxCrashes: number;
  /** The number of processes of each generation. */
  instances: number;
  /** Where this process listens above the program. */
  sockets: readonly SocketRequest[];
  /** Reloads the program whenever there is a reason to, until that ends. */
  triggers: BeginTriggers | undefined;
  /** How new versions are judged. */
  check: CheckOrder | undefined;
  /** Writes a line for people. */
  log(line: string): void;
}

/** A program that has run for longer did not crash at its start. */
const STABLE_MS = 10_000;
/** The pause before the first restart. Each further restart doubles it, up to the longest. */
const FIRST_BACK_OFF_MS = 100;
const MAX_BACK_OFF_MS = 10_000;
/** How long to wait for an instance before the next one is started anyway. */
const UP_TIMEOUT_MS = 5_000;
/** Milliseconds between two checks of the files, for changes that the watcher misses. */
const FILES_CHECK_MS = 500;
const SHUTDOWN = ["SIGTERM", "SIGINT"] as const;
const FORWARDED = ["SIGQUIT", "SIGUSR1", "SIGUSR2"] as const;

/**
 * Runs all instances of a program, and all their generations. Resolves with the exit code to end
 * with.
 */
export async function run(command: readonly string[], options: RunOptions): Promise<number> {
  /** The sockets of each instance. */
  const sockets: KeptSocket[][] = [];
  for (let i = 0; i < options.instances; i++) {
    sockets.push(
      await Promise.all(
        options.sockets.map((request) => keepSocket(request, options.instances > 1)),
      ),
    );
  }
  const folder = makeFolder();
  const parent = publishParent();
  const stop = new AbortController();
  const instances = sockets.map((_, i) => new Instance(join(folder, String(i))));
  const coordinator = instances.length > 1 ? new Coordinator(instances) : undefined;
  const servers = await Promise.all(
    coordinator === undefined
      ? []
      : instances.map((instance) =>
        acceptSockets(join(instance.folder, SOCKET), (channel) =>
          coordinator.connect(instance, channel))
      ),
  );
  const unfollow = follow(folder, () => {
    const first = instances.map((instance) => instance.inCharge()?.pid).find((pid) =>
      pid !== undefined
    );
    if (first !== undefined) parent.update(first);
    for (const instance of instances) instance.check();
    coordinator?.check();
  });
  const forward = createForward(instances, options.log);
  handleSignals(stop, forward, coordinator);
  // From then on, a client that connects is refused as soon as the program does not listen any
  // more.
  stop.signal.addEventListener("abort", () => sockets.flat().forEach((socket) => socket.close()));
  const endTriggers = options.triggers?.(
    () => instances.flatMap((instance) => instance.inCharge()?.pid ?? []),
    options.log,
  );
  stop.signal.addEventListener("abort", () => endTriggers?.());
  try {
    return await keepAllRunning(
      instances,
      (instance, i) => {
        const fds = sockets[i]?.map(({ fd }) => fd) ?? [];
        return keepRunning(instance, command, { ...options, fds }, stop.signal);
      },
      stop,
      forward,
    );
  } finally {
    endTriggers?.();
    unfollow();
    for (const server of servers) server.close();
    parent.remove();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Passes signals on to the processes in charge. */
type Forward = (signal: NodeJS.Signals) => void;

function createForward(instances: readonly Instance[], log: RunOptions["log"]): Forward {
  const waiting = new Set<Instance>();
  /**
   * The program may have read by now what has changed before the signal: it reloads as soon as it
   * can.
   */
  function reloadLater(instance: Instance): void {
    if (waiting.has(instance)) return;
    waiting.add(instance);
    log(
      "asked to reload, but the program has not called listen() of @js0/reload-self yet: it reloads when it has",
    );
    instance.whenInCharge().then((pid) => {
      waiting.delete(instance);
      kill(pid, "SIGHUP");
    });
  }
  return (signal) => {
    for (const instance of instances) {
      const pid = instance.inCharge()?.pid;
      if (pid !== undefined) kill(pid, signal);
      else if (signal === "SIGHUP") reloadLater(instance);
      else instance.killAll(signal);
    }
  };
}

function handleSignals(
  stop: AbortController,
  forward: Forward,
  coordinator: Coordinator | undefined,
): void {
  process.on("SIGHUP", coordinator === undefined ? forward : () => coordinator.begin());
  for (const signal of FORWARDED) process.on(signal, forward);
  for (const signal of SHUTDOWN) {
    process.on(signal, () => {
      stop.abort();
      forward(signal);
    });
  }
}

const aborted = (signal: AbortSignal) =>
  new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));

/**
 * Keeps all instances running. When one gives up, all do: the operator's supervisor decides what to
 * do. Resolves with the exit code.
 *
 * @param keep Keeps one instance running.
 */
async function keepAllRunning(
  instances: readonly Instance[],
  keep: (instance: Instance, i: number) => Promise<number>,
  stop: AbortController,
  forward: Forward,
): Promise<number> {
  const stopped = aborted(stop.signal);
  const codes = await Promise.all(instances.map(async (instance, i) => {
    // One after the other, so that the order of their sockets is known and a reload can steer them.
    await Promise.race([
      instances[i - 1]?.isUp,
      delay(UP_TIMEOUT_MS, undefined, { ref: false }),
      stopped,
    ]);
    if (stop.signal.aborted) return 0;
    const code = await keep(instance, i);
    if (code !== 0 && !stop.signal.aborted) {
      stop.abort();
      forward("SIGTERM");
    }
    return code;
  }));
  return codes.find((code) => code !== 0) ?? 0;
}

/** Restarts the program when it crashes. Resolves with its last exit code. */
async function keepRunning(
  instance: Instance,
  command: readonly string[],
  options: RunOptions & { readonly fds: readonly number[] },
  stop: AbortSignal,
): Promise<number> {
  const { log, maxCrashes } = options;
  const stopped = aborted(stop);
  for (let crashes = 0;;) {
    const begun = performance.now();
    const ended = instance.start(command, { ...options, sockets: options.fds });
    const code = await Promise.race([ended, stopped.then(() => inTime(instance, ended, options))]);
    if (stop.aborted || code === 0) {
      if (!stop.aborted && options.instances > 1) {
        log("an instance of the program has ended with code 0: it is not started again");
      }
      await inTime(instance, instance.gone(), options);
      return code;
    }
    crashes = performance.now() - begun > STABLE_MS ? 1 : crashes + 1;
    const how = code > 128 ? `was ended by ${signalName(code - 128)}` : `exited with code ${code}`;
    if (crashes >= maxCrashes) {
      log(
        `the program ${how}. It has crashed as often in a row as --max-crashes allows, ${maxCrashes}: giving up`,
      );
      return code;
    }
    const wait = Math.min(MAX_BACK_OFF_MS, FIRST_BACK_OFF_MS * 2 ** (crashes - 1));
    log(`the program ${how}: it is started again in ${wait} ms`);
    await Promise.race([delay(wait), stopped]);
    if (stop.aborted) return code;
  }
}

/** Waits until the program has ended, and kills it after a timeout. */
async function inTime(
  instance: Instance,
  ended: Promise<number>,
  { stopTimeout, log }: RunOptions,
): Promise<number> {
  const late = Symbol();
  const timeout = new Promise<typeof late>((resolve) =>
    setTimeout(resolve, stopTimeout, late).unref()
  );
  const code = await Promise.race([ended, timeout]);
  if (code !== late) return code;
  log(`the program has not ended within ${stopTimeout / 1000} s: it is killed`);
  instance.killAll("SIGKILL");
  return 128 + os.signals.SIGKILL;
}

/** Listens for the program. */
async function keepSocket(request: SocketRequest, reusePort: boolean): Promise<KeptSocket> {
  try {
    return await listenForOthers(request, reusePort);
  } catch (error) {
    const { host = "*", port } = request;
    throw new Failure(
      2,
      `--socket ${host}:${port}: nothing can listen there: ${describeError(error)}`,
    );
  }
}

/** Throws when there is no such program, which is no crash. */
export function checkCommand([file = ""]: readonly string[]): void {
  const paths = file.includes("/")
    ? [file]
    : (process.env.PATH ?? "").split(delimiter).map((folder) => join(folder || ".", file));
  if (paths.some((path) => attempt(() => (accessSync(path, constants.X_OK), true)))) return;
  throw new Failure(
    2,
    `there is no program ${file}${file.includes("/") ? "" : " in PATH"} that can be run`,
  );
}

function signalName(number: number): string {
  return Object.entries(os.signals).find(([, value]) => value === number)?.[0] ??
    `signal ${number}`;
}

/**
 * A folder for this user only; in memory where the folder for temporary files cannot be written to.
 */
function makeFolder(): string {
  for (const base of [process.env.XDG_RUNTIME_DIR, tmpdir(), "/dev/shm"]) {
    const folder = base ? attempt(() => mkdtempSync(join(base, "reload-self-run-"))) : undefined;
    if (folder !== undefined) return folder; // Otherwise it is read-only, full, or not there.
  }
  throw new Failure(
    2,
    `no folder can be written to: neither ${tmpdir()} nor /dev/shm. Set TMPDIR to one`,
  );
}

/**
 * Calls back when a file changes in a folder or in one of its subfolders. Returns a function that
 * stops it.
 */
function follow(folder: string, changed: () => void): () => void {
  const watchers = [folder, ...readdirSync(folder).map((name) => join(folder, name))].map((path) =>
    watch(path, changed)
  );
  const interval = setInterval(changed, FILES_CHECK_MS);
  return () => {
    for (const watcher of watchers) watcher.close();
    clearInterval(interval);
  };
}

/**
 * Lets `reload-self reload` and `reload-self status` find the process in charge by the pid of its
 * parent.
 */
function publishParent(): { update(pid: number): void; remove(): void } {
  const folder = service.runtimeFolder();
  // With a reaper, process 1 is a shell that waits for this process.
  const pids = process.env[REAPER_VARIABLE] !== undefined ? [process.pid, 1] : [process.pid];
  const paths = folder === undefined
    ? []
    : pids.map((pid) => ({ pid, path: `${folder}/${statusFile(pid)}` }));
  let last: number | undefined;
  return {
    update(supervises) {
      if (supervises === last) return;
      last = supervises;
      for (const { pid, path } of paths) {
        service.files().replace(
          path,
          JSON.stringify({ version: 1, pid, startTime: service.startTime(pid), supervises }),
        );
      }
    },
    remove() {
      for (const { path } of paths) rmSync(path, { force: true });
    },
  };
}
