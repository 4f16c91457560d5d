import type { Adapter } from "../core/adapter.ts";
import { createNodeAdapter } from "./node.ts";
import type { NodeProcess } from "./node_process.ts";

/** What of the global `Bun` is used here. */
export interface BunNamespace {
  /** `false` in a worker. */
  readonly isMainThread: boolean;
}

/** Milliseconds after which a start is over: time for what nobody waits for. */
const STARTED = 100;

/**
 * The adapter for Bun: Node's. Bun needs no permissions. Reading files costs it a third of its start-up (4 ms for the first
 * use of node:fs), and `process.title` does not overwrite the command line, so that is read when the program has started.
 */
export function createBunAdapter(bun: BunNamespace, process: NodeProcess): Adapter {
  return createNodeAdapter(process, "Bun", bun.isMainThread, (work) => setTimeout(work, STARTED).unref());
}
