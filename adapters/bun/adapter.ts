import type { Adapter, StartAdapter } from "../../src/core/adapter.ts";
import { countActivated } from "../shared/listen_fds.ts";
import { startNode } from "../node/adapter.ts";
import type { NodeProcess } from "../shared/node_channel.ts";
import { bunDatagrams } from "./datagrams.ts";
import { bunFetch, bunServe } from "./native.ts";

/** The part of the global `Bun` that is used here. */
export interface BunNamespace {
  readonly serve: unknown;
  readonly udpSocket?: unknown;
  /** `false` in a worker. */
  readonly isMainThread: boolean;
}

/** The adapter for Bun: Node's, with a cheaper way to know the main thread. Bun needs no permissions. */
export function createBunAdapter(bun: BunNamespace, process: NodeProcess): StartAdapter {
  const start = startNode(process, "Bun", bun.isMainThread);
  const isShared = (start.handshake.supervisor?.instances ?? 1) > 1;
  const { snapshot: { loaded }, handshake: { generation } } = start;
  const activated = process.platform === "linux" ? countActivated(loaded, process.pid, generation !== undefined) : 0;
  return {
    ...start.adapter,
    nativeServe: bunServe(bun, process.platform !== "linux" || isShared, activated, (name) => process.env[name]),
    nativeDatagrams: bunDatagrams(bun),
    fetch: bunFetch,
    complete: async (): Promise<Adapter> => (await import("./complete.ts")).completeBunAdapter(start),
  };
}
