/** The preload on Node, and the part of it that Bun and Deno have in common with it. */
import { Socket } from "node:dgram";
import { EventEmitter } from "node:events";
import { isLeftAlone, originalOf } from "../../src/core/marks.ts";
import type { AutoHost } from "../../src/core/auto.ts";
import type { NodeProcess } from "../shared/node_channel.ts";
import { patchDatagrams } from "./datagrams.ts";
import { patchServers, type ServerPrototype } from "./servers.ts";
import { clusterRole } from "../shared/cluster.ts";
import { giveBack, putAside } from "../shared/events_aside.ts";

/** Replaces what opens servers on Node. */
export function installNode(process: NodeProcess, host: AutoHost): void {
  const isExempt = () => isLeftAlone() || isCluster(process, host);
  // http, https, http2 and tls have its method.
  patchServers(process.getBuiltinModule("node:net").Server.prototype, host, {
    pid: process.pid,
    takesOpened: true,
    isExempt,
  });
  patchDatagrams(Socket.prototype, host, isExempt);
}

/**
 * Replaces what opens servers of node's kind on Bun and Deno, whose modules are loaded when the
 * program uses them.
 *
 * @param takesOpened Whether a server can be handed over that the program has opened.
 */
export function installLate(pid: number, host: AutoHost, takesOpened: boolean): void {
  const isExempt = () =>
    isLeftAlone() || isCluster((globalThis as unknown as { process: NodeProcess }).process, host);
  onFirstServer(
    EventEmitter.prototype,
    (prototype) => patchServers(prototype, host, { pid, takesOpened, isExempt }),
  );
  patchDatagrams(Socket.prototype, host, isExempt);
}

/** Whether node:cluster serves, and no server of this process. */
function isCluster(process: NodeProcess, host: AutoHost): boolean {
  const role = clusterRole(process);
  if (role === "primary") {
    host.say(
      "servers of node:cluster are not handed over: run one process instead of a cluster, or `reload-self run --instances 4`",
    );
  }
  return role !== undefined;
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
    unref: (milliseconds: number, callback: () => void): void =>
      void setTimeout(callback, milliseconds).unref(),
  };
}

/**
 * What every constructor of a server of node:net sets, on all three runtimes, and no constructor of
 * another emitter.
 */
const OF_SERVERS = "_unref";

/**
 * Calls back with the prototype of each kind of server when the first server of that kind is made.
 * To load node:net and node:http for a program that uses neither takes 40 ms on Bun and 60 ms on
 * Deno; nothing tells when a program loads them.
 */
function onFirstServer(emitter: object, found: (prototype: ServerPrototype) => void): void {
  Object.defineProperty(emitter, OF_SERVERS, {
    configurable: true,
    get: () => undefined,
    set(this: object, value: unknown) {
      Object.defineProperty(this, OF_SERVERS, {
        value,
        configurable: true,
        enumerable: true,
        writable: true,
      });
      const prototype = ownerOf(this, "listen") as ServerPrototype | undefined;
      if (
        typeof prototype?.listen === "function" && originalOf(prototype.listen) === prototype.listen
      ) found(prototype);
    },
  });
}

/** The object that has a member itself, on the way up from another. */
function ownerOf(object: object, name: string): object | undefined {
  if (Object.hasOwn(object, name)) return object;
  const above = Reflect.getPrototypeOf(object);
  return above === null ? undefined : ownerOf(above, name);
}

/** The handlers that were put aside. */
export interface SignalsAside {
  /** How many handlers a signal has. */
  count(signal: string): number;
  /** Gives a signal back to the program: its handlers are those of the process again. */
  giveBack(signal: string): void;
}

/**
 * Puts the handlers of these signals aside, also those that are added later: what they do, such as
 * closing the server, comes after the drain. A signal that the program emits itself is one that it
 * gets.
 */
export function putSignalsAside(process: NodeProcess, signals: readonly string[]): SignalsAside {
  const emitter = new (process.getBuiltinModule("node:events").EventEmitter)();
  emitter.setMaxListeners(0);
  for (const signal of signals) putAside(process, signal, { emitter, emitsHere: false });
  return {
    count: (signal) => emitter.listenerCount(signal),
    giveBack: (signal) => giveBack(process, signal),
  };
}
