import type { Adapter } from "../../core/adapter.ts";
import { bunLibc, type BunServeNamespace, listenInFront, openKernel, serveOnBun } from "./sockets.ts";
import { createNodeAdapter } from "../node/adapter.ts";
import { attachConsole } from "../../windows/console.ts";
import type { NodeProcess } from "../node/process.ts";

/** The part of the global `Bun` that is used here. */
export interface BunNamespace extends BunServeNamespace {
  /** `false` in a worker. */
  readonly isMainThread: boolean;
}

/** The adapter for Bun: Node's, with a cheaper way to know the main thread. Bun needs no permissions. */
export function createBunAdapter(bun: BunNamespace, process: NodeProcess): Adapter {
  const adapter = createNodeAdapter(process, "Bun", bun.isMainThread, {
    listen: listenInFront,
    libc: bunLibc,
    serve: serveOnBun(bun),
  });
  return {
    ...adapter,
    predecessor() {
      const predecessor = adapter.predecessor();
      if (predecessor !== undefined && process.platform === "win32") attachConsole(process.ppid, openKernel);
      return predecessor;
    },
  };
}
