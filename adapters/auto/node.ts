/** The preload on Node. */
import type { Server } from "node:net";
import type { AutoHost } from "../../core/auto.ts";
import type { NodeProcess } from "../node/channel.ts";
import { patchServers } from "./servers.ts";
import { putSignalsAside, type SignalsAside } from "./signals.ts";

/** Replaces what opens servers. */
export function installNode(process: NodeProcess, host: AutoHost): void {
  const net = process.getBuiltinModule("node:net");
  patchServers(net.Server.prototype, host, {
    pid: process.pid,
    takesOpened: true,
    isExempt: (server) => isOfCluster(process, server, host),
  });
}

/** Whether node:cluster serves: it has a server of its own in the process that starts the workers, and none in the workers. */
function isOfCluster(process: NodeProcess, server: Server, host: AutoHost): boolean {
  const cluster = process.getBuiltinModule("node:cluster");
  if (cluster.isWorker) return true;
  if (Object.keys(cluster.workers ?? {}).length === 0) return false;
  host.say(
    "servers of node:cluster are not handed over: run one process instead of a cluster, or `reload-self run --instances 4`",
  );
  void server;
  return true;
}

/** What a program needs of Node and Bun. */
export function nodeRuntime(process: NodeProcess) {
  return {
    variable: (name: string): string | undefined => process.env[name],
    putAside: (signals: readonly string[]): SignalsAside => putSignalsAside(process, signals),
    isHandled: (signal: string): boolean => process.listenerCount(signal) > 0,
    emit: (signal: string, number: number): void =>
      void process.emit(signal as NodeJS.Signals, signal as NodeJS.Signals, number),
    exit: (): void => process.exit(),
    holders: (): readonly string[] => [...new Set(process.getActiveResourcesInfo())],
    unref: (milliseconds: number, callback: () => void): void => void setTimeout(callback, milliseconds).unref(),
  };
}
