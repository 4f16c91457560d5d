/**
 * Tests of programs that reload themselves: a token that is reloaded and cancelled by a call,
 * without signals and without other processes. Everything else is real: servers listen and are
 * drained, tasks are waited for, state is saved. It runs on Deno, Bun and Node, in worker threads,
 * and in test runners such as Jest and Vitest.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { createServer } from "node:http";
 * import type { AddressInfo } from "node:net";
 * import type { Token } from "@js0/reload-self";
 * import { createTestToken } from "@js0/reload-self/testing";
 *
 * // The program to be tested gets its token as an argument.
 * async function start(token: Token): Promise<string> {
 *   const server = createServer((_request, response) => response.end(`generation ${token.generation}`));
 *   await token.bind(server, { port: 0 });
 *   return `http://localhost:${(server.address() as AddressInfo).port}/`;
 * }
 *
 * const { token, reload } = createTestToken();
 * const url = await start(token);
 * assert.equal(await (await fetch(url)).text(), "generation 0");
 * await reload();
 * assert.equal((await token.drained()).complete, true);
 * await assert.rejects(fetch(url)); // Here is no new process that listens now.
 * ```
 *
 * @module
 */
import { registry } from "./adapters/registry.ts";
import { checkOptions, show } from "./src/core/check.ts";
import { checkListenOptions, type ListenOptions } from "./src/core/options.ts";
import type { Token } from "./src/core/token.ts";
import {
  beginTestProgram,
  type Inheritance,
  type ReleasedConnection,
} from "./src/program/test_program.ts";

export type { Inheritance, ListenOptions, ReleasedConnection, Token };

/**
 * The options of `createTestToken()`: those of `listen()`, so that a test can pass on those of the
 * program, and some of its own. What `listen()` does with signals, processes and files does not
 * happen: `command`, `env`, `pidFile`, `status`, `check`, `probation`, `readyTimeout`,
 * `reloadSignals` and `shutdownSignals` have no effect. The default of `idleGrace` is 0, so that a
 * test does not wait for idle connections.
 */
export interface TestTokenOptions extends Omit<ListenOptions, "adapter"> {
  /** The generation of the token. Default: 0, or 1 with `inheritedState`. */
  generation?: number;
  /**
   * What a predecessor has saved: `token.inheritedState` resolves with what is left of it as JSON.
   */
  inheritedState?: unknown;
  /**
   * Stands for the new process: called at a reload with what that would get. When it throws or
   * rejects, the reload fails, and the token and its program go on. Throw a `ReloadError` to fail
   * for a certain reason. Default: every reload succeeds.
   */
  onReload?: (inheritance: Inheritance) => unknown;
}

/** A token for a test, and the ways to end it. */
export interface TestToken extends AsyncDisposable {
  /** The token that the program gets, instead of that of `listen()`. */
  readonly token: Token;
  /**
   * Resolves when the program is ready: by `token.ready()` or its promise, where it has asked for
   * one of them. Otherwise when all servers listen that have been bound so far. Rejects when its
   * promise does.
   */
  readonly ready: Promise<void>;
  /**
   * Reloads, as the signal does: lets go of the connections of `token.live()`, saves the state, and
   * cancels the token with `{ kind: "reload" }`. The pid of the new process is that of this one.
   *
   * @returns What the next generation would get.
   * @throws {ReloadError} When the reload failed, or the token is cancelled.
   */
  reload(): Promise<Inheritance>;
  /** Shuts down, as a signal does. Resolves when the token is cancelled. Default: SIGTERM. */
  shutdown(signal?: string): Promise<void>;
  /** Cancels the token, and waits for its tasks and servers. */
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * Creates a token for a test. Each call makes another one; the token of `listen()` is not touched.
 *
 * @param options Everything has a default.
 * @throws {TypeError} When an option is wrong; the message names it.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { createTestToken } from "@js0/reload-self/testing";
 *
 * const visits = 3;
 * const first = createTestToken({ saveState: () => ({ visits }) });
 * const { state } = await first.reload();
 * assert.deepEqual(await first.token.cancelled(), { kind: "reload", pid: process.pid, generation: 1 });
 *
 * const second = createTestToken({ inheritedState: state });
 * assert.deepEqual(await second.token.inheritedState, { visits: 3 });
 * await second.shutdown("SIGINT");
 * assert.deepEqual(await second.token.cancelled(), { kind: "shutdown", signal: "SIGINT" });
 * ```
 */
export function createTestToken(options: TestTokenOptions = {}): TestToken {
  checkOptions("createTestToken", options, Object.keys(options ?? {}));
  const { inheritedState, generation = inheritedState === undefined ? 0 : 1, onReload, ...rest } =
    options;
  if (!Number.isInteger(generation) || generation < 0) {
    throw new TypeError(
      `createTestToken: generation must be a whole number from 0 on, not ${show(generation)}`,
    );
  }
  if (onReload !== undefined && typeof onReload !== "function") {
    throw new TypeError(`createTestToken: onReload must be a function, not ${show(onReload)}`);
  }
  checkListenOptions(rest, registry.adapter);
  const { token, ready, reload, shutdown } = beginTestProgram(registry.adapter, {
    options: rest,
    generation,
    inheritedState,
    onReload,
  });
  return {
    token,
    ready,
    reload,
    shutdown: (signal = "SIGTERM") => shutdown(signal),
    [Symbol.asyncDispose]: () => token[Symbol.asyncDispose](),
  };
}
