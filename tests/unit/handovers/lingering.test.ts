import assert from "node:assert/strict";
import { test } from "node:test";
import { createCancellation } from "../../../src/core/cancellation.ts";
import type { OwnSocket } from "../../../src/core/socket_adapter.ts";
import {
  CLOSE_MS,
  countNames,
  FIRST_REMIND_MS,
  followEnd,
  REMIND_MS,
} from "../../../src/sockets/unbound.ts";

const socket: OwnSocket = { fd: 7, address: { address: "::", family: "IPv6", port: 80 } };

/** A process that has been cancelled, and its warnings after some calls of `every`. */
async function warnings(
  kind: "reload" | "shutdown",
  { sockets = [] as OwnSocket[], canStop = true, holders = [] as string[], minutes = -1 },
): Promise<{ lines: string[]; stopped: number[] }> {
  const clock = {
    now: () => 0,
    timer: (_: number, callback: () => void) => (queueMicrotask(callback), () => {}),
    hold: () => () => {},
  };
  const { token, cancel } = createCancellation(clock, { onFail() {} });
  const lines: string[] = [];
  const stopped: number[] = [];
  const callbacks = new Map<number, () => void>();
  followEnd({
    program: { token, warn: (line) => void lines.push(line) },
    unbound: () => sockets,
    advise: (found) => `listens on ${found.length}`,
    stopListening: ({ fd }) => (stopped.push(fd), canStop),
    holders: () => holders,
    every(milliseconds, callback) {
      callbacks.set(milliseconds, callback);
      return () => callbacks.delete(milliseconds);
    },
  });
  cancel(kind === "reload" ? { kind, pid: 4711, generation: 1 } : { kind });
  await token.drained();
  await Promise.resolve();
  callbacks.get(CLOSE_MS)?.();
  assert.ok(!callbacks.has(CLOSE_MS), "it looks once");
  if (minutes >= 0) callbacks.get(FIRST_REMIND_MS)?.();
  for (let i = 0; i < minutes; i++) callbacks.get(REMIND_MS)?.();
  return { lines, stopped };
}

test("a process that was replaced accepts nothing more where it still listens", async () => {
  assert.deepEqual(await warnings("reload", { sockets: [socket] }), {
    lines: ["listens on 1. It accepts nothing there any more: pid 4711 is in charge"],
    stopped: [7],
  });
  assert.deepEqual((await warnings("reload", { sockets: [socket], canStop: false })).lines, [
    "listens on 1",
  ]);
  assert.deepEqual(await warnings("shutdown", { sockets: [socket] }), {
    lines: ["listens on 1"],
    stopped: [],
  });
  assert.deepEqual(await warnings("reload", {}), { lines: [], stopped: [] });
});

test("one that does not leave says after five seconds, and every minute, what keeps it", async () => {
  const { lines } = await warnings("reload", {
    holders: ["Timeout", "TCPSocketWrap", "Timeout"],
    minutes: 2,
  });
  assert.equal(
    lines[0],
    "it was replaced, has been done with its work for 5 seconds, and has not left. What keeps it: 2 Timeout, TCPSocketWrap. " +
      "Close that after `await token.drained()`, or call `process.exit()`",
  );
  assert.match(lines[1] as string, /^it was replaced, .* for 1 minute,/);
  assert.match(lines[2] as string, /^it was replaced, .* for 2 minutes,/);
  assert.match(
    (await warnings("shutdown", { minutes: 0 })).lines[0] as string,
    /^it was told to end, .* for 5 seconds.*Something keeps it/,
  );
  assert.equal(countNames(["a", "b", "a"]), "2 a, b");
});
