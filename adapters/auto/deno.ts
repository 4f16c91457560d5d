/** The preload on Deno: Deno's own servers. */
import type { AutoHost } from "../../src/core/auto.ts";
import { attempt } from "../../src/core/attempt.ts";
import type { DenoNamespace } from "../deno/namespace.ts";
import type { NodeProcess } from "../shared/node_channel.ts";
import { installLate, putSignalsAside, type SignalsAside } from "./node.ts";
import { markPrivate, originalOf, replacing } from "../../src/core/marks.ts";
import type { ServeFunction } from "../../src/core/native.ts";
import { isOfThread } from "../deno/threads.ts";
import { isPrivateAddress } from "./listen_arguments.ts";

type Listener = () => void;

/** The part of the global `Deno` that is replaced. */
export interface DenoServers {
  addSignalListener(signal: string, listener: Listener): void;
  removeSignalListener(signal: string, listener: Listener): void;
  serve: ServeFunction;
  listen: ServeFunction;
  listenTls?: ServeFunction;
  listenDatagram?: ServeFunction;
}

interface Options {
  readonly transport?: string;
  readonly port?: unknown;
  readonly hostname?: unknown;
  readonly path?: unknown;
}

/** Notes that a server is the process's own. */
function privately<S extends { readonly addr: { readonly port?: number; readonly path?: string } }>(
  server: S,
): S {
  const where = server.addr.path ?? server.addr.port;
  if (where !== undefined) markPrivate(where);
  return server;
}

/** Replaces what opens servers. */
export function installDeno(deno: DenoNamespace & DenoServers, host: AutoHost): void {
  const { pid } = deno;
  installLate(pid, host, true);
  const { serve, listen, listenTls, listenDatagram } = deno;
  deno.serve = replacing(originalOf(serve), (first: unknown, second?: unknown) => {
    const options = (typeof first === "object" && first !== null ? first : second ?? {}) as Options;
    // Deno 2.9 lets each thread read the channel that comes with inherited sockets.
    if (isOfThread(options) && !host.isSuccessor && !host.opensItself) host.say(explainThreads);
    return isPrivateAddress(options.path, options.port, pid)
      ? privately(originalOf(serve)(first, second))
      : host.begin().adopt(originalOf(serve))(first, second);
  });
  const adopting = (original: ServeFunction) =>
    replacing(original, (options: Options, ...rest: unknown[]) => {
      const { path, port } = options ?? {};
      if (isPrivateAddress(path, port, pid)) return privately(original(options, ...rest));
      // Deno 2.9 opens the servers of node:net in another way.
      return host.begin().adopt(original)(options, ...rest);
    });
  deno.listen = adopting(originalOf(listen));
  if (listenTls !== undefined) deno.listenTls = adopting(originalOf(listenTls));
  if (listenDatagram === undefined) return;
  const openDatagrams = originalOf(listenDatagram);
  deno.listenDatagram = replacing(
    openDatagrams,
    (options: Options) =>
      options?.transport === "udp" && Number(options.port ?? 0) !== 0
        ? host.begin().adopt(openDatagrams)(options)
        : openDatagrams(options),
  );
}

const explainThreads =
  "`deno serve --parallel` cannot be reloaded with sockets of systemd or of `reload-self run`: leave out " +
  "--parallel, --socket or --instances";

/** Replaces what opens the server of a thread that does not reload. */
export function installDenoThread(deno: DenoServers, host: AutoHost): void {
  const serve = originalOf(deno.serve);
  deno.serve = replacing(
    serve,
    (first: unknown, second?: unknown) =>
      isOfThread(Object(first)) ? host.begin().adopt(serve)(first, second) : serve(first, second),
  );
}

const process = () => (globalThis as unknown as { process: NodeProcess }).process;
/** Whether Node's `process` was loaded; see adapters/deno/signals.ts. */
const hasProcess = (deno: DenoNamespace) =>
  attempt(() =>
    (deno[deno.internal] as { __nodeProcessBootstrapped?: boolean }).__nodeProcessBootstrapped
  ) === true;

/** What a program needs of Deno. */
export function denoRuntime(deno: DenoNamespace) {
  const own = new Map<string, Set<Listener>>();
  let ofProcess: SignalsAside | undefined;

  function putAside(signals: readonly string[]): SignalsAside {
    const servers = deno as unknown as DenoServers;
    const { addSignalListener: add, removeSignalListener: remove } = servers;
    for (const signal of signals) own.set(signal, new Set());
    servers.addSignalListener = replacing(originalOf(add), (signal: string, listener: Listener) => {
      const listeners = own.get(signal);
      if (listeners === undefined) originalOf(add)(signal, listener);
      else listeners.add(listener);
    });
    servers.removeSignalListener = replacing(
      originalOf(remove),
      (signal: string, listener: Listener) => {
        if (own.get(signal)?.delete(listener) !== true) originalOf(remove)(signal, listener);
      },
    );
    // Its first use takes 20 ms, for which no server has to wait.
    const ofNode = () => void (ofProcess ??= putSignalsAside(process(), signals));
    if (hasProcess(deno)) ofNode();
    else setTimeout(ofNode);
    return {
      count: (signal) => (own.get(signal)?.size ?? 0) + (ofProcess?.count(signal) ?? 0),
      giveBack(signal) {
        const listeners = own.get(signal) ?? new Set();
        own.delete(signal);
        given.set(signal, listeners);
        for (const listener of listeners) originalOf(add)(signal, listener);
        ofProcess?.giveBack(signal); // It comes to the same functions.
      },
    };
  }
  /** Those that were given back. */
  const given = new Map<string, Set<Listener>>();
  const countOf = (signal: string) => hasProcess(deno) ? process().listenerCount(signal) : 0;
  return {
    variable: (name: string): string | undefined =>
      deno.permissions.querySync({ name: "env" }).state === "granted"
        ? deno.env.get(name)
        : undefined,
    putAside: putAside as (signals: readonly string[]) => SignalsAside,
    isHandled: (signal: string): boolean => (given.get(signal)?.size ?? 0) + countOf(signal) > 0,
    emit(signal: string, number: number): void {
      for (const listener of given.get(signal) ?? []) listener();
      if (countOf(signal) > 0) {
        (process().emit as (...args: unknown[]) => boolean).call(process(), signal, signal, number);
      }
    },
    exit: (): void => (deno.exit as (code?: number) => void)(),
    holders: (): readonly string[] => [],
    unref: (milliseconds: number, callback: () => void): void =>
      deno.unrefTimer(setTimeout(callback, milliseconds)),
  };
}
