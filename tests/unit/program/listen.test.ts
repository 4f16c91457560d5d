/** listen() with an adapter of the application's own. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { clock } from "../../../adapters/shared/clock.ts";
import type { Adapter } from "../../../adapter.ts";
import { listen } from "../../../mod.ts";

test("an injected adapter stands in for the runtime", async () => {
  const handlers = new Map<string, () => void>();
  const started: number[] = [];
  const adapter: Adapter = {
    ...clock,
    runtime: "a test",
    pid: 1,
    canReload: true,
    signals: { SIGHUP: 1, SIGTERM: 15 },
    reloadSignals: ["SIGHUP"],
    shutdownSignals: ["SIGTERM"],
    onSignal(signal, handler) {
      handlers.set(signal, handler);
      return () => handlers.delete(signal);
    },
    predecessor: () => undefined,
    start({ generation }) {
      started.push(generation);
      return Promise.reject(new Error("not in a test"));
    },
    exit() {},
  };
  const lines: string[] = [];
  const token = listen({
    adapter,
    logger: { info() {}, warn() {}, error: (line) => lines.push(line) },
  });
  assert.deepEqual([...handlers.keys()], ["SIGHUP", "SIGTERM"]);
  await assert.rejects(token.reload(), {
    name: "ReloadError",
    code: "start",
    message: /could not be started: not in a test/,
  });
  assert.deepEqual(started, [1]);
  assert.deepEqual(lines, [
    "reload-self: process 1: reload failed: the new process could not be started: not in a test. Process 1 goes on unchanged.",
  ]);
  handlers.get("SIGTERM")?.();
  assert.deepEqual(token.signal.reason, { kind: "shutdown", signal: "SIGTERM" });
  await token[Symbol.asyncDispose]();
  assert.equal(handlers.size, 0);
});

test("a handler that cannot be set makes listen() throw, and nothing is left behind", () => {
  const handlers = new Set<string>();
  const adapter = {
    ...clock,
    canReload: true,
    pid: 1,
    signals: { SIGHUP: 1, SIGTERM: 15 },
    reloadSignals: ["SIGHUP"],
    shutdownSignals: ["SIGTERM"],
    predecessor: () => undefined,
    onSignal(signal: string) {
      if (signal === "SIGTERM") throw new Error("not here");
      handlers.add(signal);
      return () => handlers.delete(signal);
    },
  } as Partial<Adapter> as Adapter;
  assert.throws(() => listen({ adapter }), {
    code: "unsupported",
    message: "listen: SIGTERM cannot be handled: not here",
  });
  assert.equal(handlers.size, 0);
});
