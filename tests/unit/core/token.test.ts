/** The token without reloads, on the clock of the runtime. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { clock } from "../../../adapters/shared/clock.ts";
import { createCancellation } from "../../../src/core/cancellation.ts";
import type { TaskFailure } from "../../../src/core/token.ts";

function create() {
  const failures: TaskFailure[] = [];
  return {
    ...createCancellation(clock, { onFail: (failure) => void failures.push(failure) }),
    failures,
  };
}

test("cancel: once, with the reason everywhere the same", async () => {
  const { token } = create();
  const reasons: unknown[] = [];
  token.signal.addEventListener("abort", () => reasons.push(token.signal.reason));
  const early = token.cancelled();
  assert.equal(token.isCancelled, false);
  token.cancel("first");
  token.cancel("second");
  assert.equal(token.isCancelled, true);
  assert.deepEqual(reasons, [{ kind: "shutdown", reason: "first" }]);
  assert.equal(await early, token.signal.reason);
  assert.equal(await token.cancelled(), token.signal.reason);
  assert.ok(Object.isFrozen(token.signal.reason));
});

test("a child is cancelled with its parent, not the other way round", async () => {
  const { token } = create();
  const one = token.child();
  const two = token.child();
  const grandchild = two.child();
  one.cancel("just me");
  assert.equal(token.isCancelled, false);
  assert.equal(two.isCancelled, false);
  token.cancel("all");
  assert.equal(one.signal.reason.reason, "just me");
  assert.equal(two.signal.reason, token.signal.reason);
  assert.equal(await grandchild.cancelled(), token.signal.reason);
  assert.equal(token.child().isCancelled, true, "a child of a cancelled token");
});

test("drained waits for the tasks, for those that tasks start, and for those of children", async () => {
  const { token } = create();
  const ended: string[] = [];
  const start = (name: string, next?: () => void) =>
    token.track(async (signal) => {
      assert.equal(signal, token.signal);
      await token.cancelled();
      await new Promise((resolve) => setTimeout(resolve, 5));
      ended.push(name);
      next?.();
    });
  start("first", () => void start("started by the first", () => void start("started by that")));
  token.child().track((async () => {
    await token.cancelled();
    ended.push("of a child");
  })());
  // The next part is started by whoever waited for the first one, which is later than its end.
  const last = start("last").then(async () => {
    await null;
    await null;
    start("started after the last");
  });
  const drained = token.drained();
  token.cancel();
  assert.deepEqual(await drained, { complete: true, running: [], failed: [] });
  await last;
  assert.deepEqual(ended.sort(), [
    "first",
    "last",
    "of a child",
    "started after the last",
    "started by that",
    "started by the first",
  ]);
});

test("drained says what was still running", async () => {
  const { token } = create();
  const never = new Promise<void>(() => {});
  token.track(never);
  token.track(never, { name: "the queue" });
  token.track(function importer() {
    return never;
  });
  const child = token.child();
  child.track(never, { name: "of a child" });
  token.cancel();
  assert.deepEqual(await token.drained({ timeout: 10 }), {
    complete: false,
    running: ["task 1", "the queue", "importer", "of a child"],
    failed: [],
  });
  assert.deepEqual((await child.drained({ timeout: 10 })).running, ["of a child"]);
});

test("a task that rejects is reported, and is no unhandled rejection", async () => {
  const { token, failures } = create();
  const error = new Error("broken");
  const promise = token.track(Promise.reject(error), { name: "a promise" });
  token.track(() => {
    throw error;
  }, { name: "a function that throws" });
  token.child().track(() => Promise.reject(error), { name: "of a child" });
  await assert.rejects(promise, error, "who waits for it is told, too");
  token.cancel();
  const { complete, failed } = await token.drained();
  assert.equal(complete, true);
  assert.deepEqual(failed.map(({ name }) => name).sort(), [
    "a function that throws",
    "a promise",
    "of a child",
  ]);
  assert.deepEqual(failures.length, 3, "each is told once");
});

test("a task that gives up because it was cancelled has not failed", async () => {
  const { token, failures } = create();
  const child = token.child();
  for (const each of [token, child]) {
    each.track((signal) =>
      new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)))
    );
    each.track((signal) =>
      new Promise((_, reject) =>
        signal.addEventListener(
          "abort",
          () => reject(new DOMException("The signal has been aborted", "AbortError")),
        )
      )
    );
  }
  child.cancel();
  token.cancel();
  assert.deepEqual((await token.drained()).failed, []);
  assert.deepEqual(failures, []);
  await assert.rejects(
    token.track(() => token.signal.throwIfAborted()) as Promise<unknown>,
    (reason) => reason === token.signal.reason,
  );
});

test("of very many failures the last hundred are kept", async () => {
  const { token } = create();
  for (let i = 0; i < 250; i++) token.track(Promise.reject(i)).catch(() => {});
  token.cancel();
  const { failed } = await token.drained();
  assert.deepEqual(
    failed.map(({ error }) => error),
    Array.from({ length: 100 }, (_, i) => 150 + i),
  );
});

test("wrong arguments are TypeErrors that name them", async () => {
  const { token } = create();
  for (const task of [undefined, null, 1, "x", {}]) {
    assert.throws(
      () => token.track(task as never),
      (error) => error instanceof TypeError && /task must be/.test(error.message),
    );
  }
  assert.throws(() => token.track(Promise.resolve(), { name: 1 as never }), {
    name: "TypeError",
    message: /name/,
  });
  assert.throws(() => token.track(Promise.resolve(), { title: "x" } as never), {
    name: "TypeError",
    message: /title/,
  });
  for (const timeout of [0, -1, NaN, Infinity, 2 ** 40, "1" as never]) {
    await assert.rejects(token.drained({ timeout }), { name: "TypeError", message: /timeout/ });
  }
});

test("await using: cancels and waits", async () => {
  const { token } = create();
  let ended = false;
  token.track(async () => {
    await token.cancelled();
    ended = true;
  });
  await token[Symbol.asyncDispose]();
  assert.equal(ended, true);
});

test("nothing is kept alive but by who waits", async () => {
  let holds = 0;
  const { token } = createCancellation({
    ...clock,
    hold() {
      holds++;
      return () => holds--;
    },
  }, { onFail() {} });
  const child = token.child();
  assert.equal(holds, 0);
  token.cancelled();
  token.cancelled();
  child.cancelled();
  assert.equal(holds, 2);
  child.cancel();
  assert.equal(holds, 1);
  token.cancel();
  await token.cancelled();
  assert.equal(holds, 0);
});
