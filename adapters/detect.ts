import type { StartAdapter } from "../src/core/adapter.ts";
import { ReloadError } from "../src/core/error.ts";
import { type BunNamespace, createBunAdapter } from "./bun/adapter.ts";
import { createDenoAdapter } from "./deno/adapter.ts";
import type { DenoNamespace } from "./deno/namespace.ts";
import { createNodeAdapter } from "./node/adapter.ts";
import type { NodeProcess } from "./shared/node_channel.ts";
import { whyTooOld } from "./node/version.ts";
import { clock } from "./shared/clock.ts";

interface Globals {
  Deno?: DenoNamespace;
  Bun?: BunNamespace;
  process?: NodeProcess;
  navigator?: { userAgent?: string };
}

/**
 * The adapter of this runtime. What a start of each runtime needs is loaded on all of them, as one
 * file in the published package: `listen()` is not asynchronous, and a module that awaits an import
 * cannot be loaded by `require()`. On Node and Bun, this is all that is loaded of `deno/`: the
 * start (adapter.ts), and what it is made of (files, permissions, signals, threads, channel, native
 * servers, datagrams). The rest of an adapter, complete.ts and what that imports, is loaded on its
 * own runtime only.
 *
 * Must be called when the library is loaded: it finds out how the program was started before the
 * program changes that, and takes the handshake out of the environment.
 *
 * @throws {ReloadError} When this version of Node is too old.
 */
export function detectAdapter(globals: object = globalThis): StartAdapter {
  // Deno loads many of its globals at their first use: `process` takes 20 ms, `Deno.Command` 4 ms.
  const { Deno } = globals as Globals;
  if (Deno !== undefined) {
    // Deno Deploy has a `Deno` without processes. Only a worker has a global postMessage.
    if (!("Command" in Deno && "addSignalListener" in Deno)) {
      return createUnsupportedAdapter("Deno Deploy");
    }
    return createDenoAdapter(Deno, !("postMessage" in globals));
  }
  const { Bun, process } = globals as Globals;
  if (Bun !== undefined && process !== undefined) return createBunAdapter(Bun, process);
  // Other platforms have a `process` for compatibility, with another release name.
  if (process?.release?.name === "node") {
    const problem = whyTooOld(process);
    if (problem !== undefined) throw new ReloadError("unsupported", problem);
    return createNodeAdapter(process, isMainThread(process));
  }
  // Looked up only here: Node loads `navigator` at its first use.
  return createUnsupportedAdapter(
    (globals as Globals).navigator?.userAgent ?? "an unknown runtime",
  );
}

/**
 * Whether this is Node's main thread. A worker may not change the directory: the call fails before
 * it looks at its argument, which is none. Loading node:worker_threads to ask it would take 2 ms of
 * every start.
 */
function isMainThread(process: NodeProcess): boolean {
  try {
    (process.chdir as (directory?: string) => void)();
    return true;
  } catch (error) {
    return (error as { code?: unknown }).code !== "ERR_WORKER_UNSUPPORTED_OPERATION";
  }
}

/** The adapter for platforms without signals and processes: serverless platforms, browsers. */
function createUnsupportedAdapter(runtime: string): StartAdapter {
  function unsupported(): never {
    throw new ReloadError("unsupported", `there are no signals and no processes here (${runtime})`);
  }
  const adapter = {
    ...clock,
    runtime,
    pid: 0,
    canReload: false,
    signals: {},
    reloadSignals: [],
    shutdownSignals: [],
    onSignal: unsupported,
    isSuccessor: false,
    predecessor: () => undefined,
    exit: unsupported,
  };
  return { ...adapter, loadRest: () => Promise.resolve({ ...adapter, start: unsupported }) };
}
