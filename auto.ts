/**
 * Makes a program reload itself without a change of its code: preload this module, or import it
 * first. Every server that the program opens is handed to the next process at a reload, and
 * drained. Nothing happens before the first server: programs without one, such as npm, tsx and
 * build tools, are left alone, and so are worker threads and workers of `node:cluster`.
 *
 * ```sh
 * node --import @js0/reload-self/auto server.js
 * bun --preload @js0/reload-self/auto server.ts
 * ```
 *
 * Options come from the environment: `RELOAD_SELF_DRAIN_TIMEOUT=10s` and so on.
 *
 * @module
 */
import { installAuto } from "./src/auto/install.ts";
import { registry } from "./adapters/registry.ts";
import type { Token } from "./src/core/token.ts";
import { listen } from "./mod.ts";

export type { Token } from "./src/core/token.ts";

/**
 * The token of this process, for a program that wants to know. Its first use begins the program, as
 * its first server does. A program that calls `listen()` itself gets the same one.
 */
export const token: Token = installAuto(registry, listen);
