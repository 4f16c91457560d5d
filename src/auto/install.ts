/** Where a preload begins: which runtime it is. */
import { type BunServers, installBun } from "../../adapters/auto/bun.ts";
import {
  denoRuntime,
  type DenoServers,
  installDeno,
  installDenoThread,
} from "../../adapters/auto/deno.ts";
import { installNode, nodeRuntime } from "../../adapters/auto/node.ts";
import type { DenoNamespace } from "../../adapters/deno/namespace.ts";
import type { NodeProcess } from "../../adapters/shared/node_channel.ts";
import type { Registry } from "../../adapters/registry.ts";
import type { ListenOptions } from "../core/options.ts";
import type { Token } from "../core/token.ts";
import { createAutoProgram } from "./program.ts";

/** Shared by all copies of this module. */
const INSTALLED = Symbol.for("@js0/reload-self auto");

interface Globals {
  [INSTALLED]?: Token;
  Deno?: DenoNamespace & DenoServers;
  Bun?: BunServers;
  process?: NodeProcess;
}

/**
 * Replaces, once, what opens servers on this runtime. Returns the token, which begins with its
 * first use.
 */
export function installAuto(registry: Registry, listen: (options?: ListenOptions) => Token): Token {
  const globals = globalThis as unknown as Globals;
  return globals[INSTALLED] ??= install(registry, listen, globals);
}

function install(
  registry: Registry,
  listen: (options?: ListenOptions) => Token,
  globals: Globals,
): Token {
  const { adapter } = registry;
  const { Deno, Bun } = globals;
  const isThread = adapter.threads?.follow !== undefined;
  // A worker thread, or a platform without processes.
  if (!adapter.canReload && !isThread) return lazily(listen);
  const process = Deno === undefined ? globals.process as NodeProcess : undefined;
  const runtime = process === undefined
    ? denoRuntime(Deno as NonNullable<typeof Deno>)
    : nodeRuntime(process);
  const { host, begin } = createAutoProgram(registry, listen, runtime);
  // Hides the channel to it before the program looks for one of its own.
  if (adapter.isSuccessor) adapter.predecessor();
  if (Deno !== undefined && isThread) installDenoThread(Deno, host);
  else if (Deno !== undefined) installDeno(Deno, host);
  else if (Bun !== undefined) installBun(Bun, adapter.pid, host, process?.platform === "linux");
  else if (process !== undefined) installNode(process, host);
  return lazily(begin);
}

function lazily(begin: () => Token): Token {
  return new Proxy({} as Token, {
    get: (_, name) => Reflect.get(begin(), name),
    has: (_, name) => name in begin(),
  });
}
