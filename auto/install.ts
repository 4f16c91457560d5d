import type { AutoRuntime } from "./program.ts";
import { createAutoProgram } from "./program.ts";
import type { Registry } from "../adapters/registry.ts";
import { installNode, nodeRuntime } from "../adapters/auto/node.ts";
import type { ListenOptions } from "../core/options.ts";
import type { Token } from "../core/token.ts";

const INSTALLED = Symbol.for("@js0/reload-self auto");

/** Installs the patches of this runtime, once. Returns the token, which begins with its first use. */
export function installAuto(registry: Registry, listen: (options?: ListenOptions) => Token): Token {
  const globals = globalThis as { [INSTALLED]?: Token; process?: typeof process };
  if (globals[INSTALLED] !== undefined) return globals[INSTALLED];
  const { adapter } = registry;
  const runtime: AutoRuntime = nodeRuntime(globals.process as NonNullable<typeof globals.process>);
  const { host, begin } = createAutoProgram(registry, listen, runtime);
  if (adapter.canReload) {
    if (adapter.isSuccessor) adapter.predecessor(); // Hides the channel to it before the program looks for one of its own.
    installNode(process, host);
  }
  const lazily = {} as Token;
  globals[INSTALLED] = new Proxy(lazily, { get: (_, name) => Reflect.get(begin(), name), has: (_, name) => name in begin() });
  return globals[INSTALLED];
}
