/** What this process is to node:cluster. */
import type { NodeProcess } from "./node_channel.ts";

/**
 * Its role, `undefined` without a cluster. The primary process has the sockets on which the workers
 * accept.
 */
export function clusterRole(process: NodeProcess): "worker" | "primary" | undefined {
  // Deno's types of Node have the members only on the default export.
  const cluster = process.getBuiltinModule("node:cluster") as unknown as {
    isWorker: boolean;
    workers?: object;
  };
  if (cluster.isWorker) return "worker";
  return Object.keys(cluster.workers ?? {}).length > 0 ? "primary" : undefined;
}
