/**
 * The preload on Bun: besides the servers of node's kind, Bun's own, and those of `export default {
 * fetch }`, which Bun opens by Bun.serve.
 */
import type { AutoHost } from "../../src/core/auto.ts";
import { markPrivate, originalOf, replacing } from "../../src/core/marks.ts";
import type { ServeFunction } from "../../src/core/native.ts";
import { installLate } from "./node.ts";
import { isPrivateAddress } from "./listen_arguments.ts";

/** The part of the global `Bun` that is replaced. */
export interface BunServers {
  serve: ServeFunction;
  listen: ServeFunction;
  udpSocket?: ServeFunction;
}

interface Options {
  readonly port?: unknown;
  readonly hostname?: unknown;
  readonly unix?: unknown;
}

/** What a program may set: how stacks are written, and how long they are. */
interface StackSettings {
  stackTraceLimit?: number;
  prepareStackTrace?: unknown;
}

/**
 * Whether a replaced function, which calls this one, is called by a module of node's kind, such as
 * node:net: Bun's are made of its own functions.
 */
function isOfNode(): boolean {
  const settings = Error as StackSettings;
  const { stackTraceLimit, prepareStackTrace } = settings;
  Object.assign(settings, { stackTraceLimit: 3, prepareStackTrace: undefined });
  const { stack } = new Error();
  Object.assign(settings, { stackTraceLimit, prepareStackTrace });
  // Below its first line, this function, and the replaced one.
  return /\(node:/.test(stack?.split("\n")[3] ?? "");
}

/** Notes that a server is the process's own. */
function privately<S extends { readonly port?: number }>(server: S, path: unknown): S {
  const where = path ?? server.port;
  if (typeof where === "string" || typeof where === "number") markPrivate(where);
  return server;
}

/** Replaces what opens Bun's own servers. */
export function installBun(bun: BunServers, pid: number, host: AutoHost, isLinux: boolean): void {
  const { serve, listen, udpSocket } = bun;
  installLate(pid, host, isLinux);
  bun.serve = replacing(originalOf(serve), (options: Options, ...rest: unknown[]) => {
    const isObject = typeof options === "object" && options !== null;
    const isPrivate = isObject && isPrivateAddress(options.unix, options.port, pid);
    // Bun's own node:http opens its servers with it.
    const isOurs = isObject && !isPrivate && !("onNodeHTTPRequest" in options);
    if (isOurs) return host.begin().adopt(originalOf(serve))(options, ...rest);
    const server = originalOf(serve).call(bun, options, ...rest);
    return isPrivate ? privately(server, options.unix) : server;
  });
  bun.listen = replacing(originalOf(listen), (options: Options, ...rest: unknown[]) => {
    const { unix, port } = options ?? {};
    const isPrivate = isPrivateAddress(unix, port, pid);
    const isOurs = !isPrivate && !isOfNode();
    if (isOurs) return host.begin().adopt(originalOf(listen))(options, ...rest);
    const server = originalOf(listen).call(bun, options, ...rest);
    return isPrivate ? privately(server, unix) : server;
  });
  if (udpSocket === undefined) return;
  bun.udpSocket = replacing(
    originalOf(udpSocket),
    (options: Options, ...rest: unknown[]) =>
      Number(options?.port ?? 0) === 0 || isOfNode()
        ? originalOf(udpSocket).call(bun, options, ...rest)
        : host.begin().adopt(originalOf(udpSocket))(options, ...rest),
  );
}
