/** The preload on Node, and the part of it that Bun and Deno have in common with it. */
import { Socket } from "node:dgram";
import { EventEmitter } from "node:events";
import { isLeftAlone } from "../../src/core/marks.ts";
import type { AutoHost } from "../../src/core/auto.ts";
import type { NodeProcess } from "../shared/node_channel.ts";
import { patchDatagrams } from "./datagrams.ts";
import { onFirstServer } from "./first_server.ts";
import { patchServers } from "./servers.ts";
import { putSignalsAside, type SignalsAside } from "./signals.ts";

/** Replaces what opens servers on Node. */
export function installNode(process: NodeProcess, host: AutoHost): void {
  const isExempt = () => isLeftAlone() || isCluster(process, host);
  // http, https, http2 and tls have its method.
  patchServers(process.getBuiltinModule("node:net").Server.prototype, host, { pid: process.pid, takesOpened: true, isExempt });
  patchDatagrams(Socket.prototype, host, isExempt);
}

/**
 * Replaces what opens servers of node's kind on Bun and Deno, whose modules are loaded when the program uses them.
 *
 * @param takesOpened Whether a server can be handed over that the program has opened.
 */
export function installLate(pid: number, host: AutoHost, takesOpened: boolean): void {
  const isExempt = () => isLeftAlone() || isCluster((globalThis as unknown as { process: NodeProcess }).process, host);
  onFirstServer(EventEmitter.prototype, (prototype) => patchServers(prototype, host, { pid, takesOpened, isExempt }));
  patchDatagrams(Socket.prototype, host, isExempt);
}

/** Whether node:cluster serves: it has a server of its own in the process that starts the workers, and none in the workers. */
function isCluster(process: NodeProcess, host: AutoHost): boolean {
  // Deno's types of Node have the members only on the default export.
  const cluster = process.getBuiltinModule("node:cluster") as unknown as { isWorker: boolean; workers?: object };
  if (cluster.isWorker) return true;
  if (Object.keys(cluster.workers ?? {}).length === 0) return false;
  host.say(
    "servers of node:cluster are not handed over: run one process instead of a cluster, or `reload-self run --instances 4`",
  );
  return true;
}

/** What a program needs of Node and Bun. */
export function nodeRuntime(process: NodeProcess) {
  return {
    variable: (name: string): string | undefined => process.env[name],
    putAside: (signals: readonly string[]): SignalsAside => putSignalsAside(process, signals),
    isHandled: (signal: string): boolean => process.listenerCount(signal) > 0,
    emit: (signal: string, number: number): void =>
      void (process.emit as (...args: unknown[]) => boolean).call(process, signal, signal, number),
    exit: (): void => process.exit(),
    holders: (): readonly string[] => [...new Set(process.getActiveResourcesInfo())],
    unref: (milliseconds: number, callback: () => void): void => void setTimeout(callback, milliseconds).unref(),
  };
}
