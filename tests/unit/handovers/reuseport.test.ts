/** Which sockets get connections during a reload, in a simulated kernel. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Reuseport } from "../../../src/sockets/reuseport/reuseport.ts";
import { orderAfter } from "../../../src/sockets/reuseport/groups.ts";
import type { OutgoingHandover } from "../../../src/reload/handover.ts";
import { createKernel } from "../../support/kernel.ts";

test("the order of new sockets when the old ones have left, by hand", () => {
  // When one leaves, the last takes its place: [A B 0 1 2] -> [A 2 0 1] -> [1 2 0].
  assert.deepEqual(orderAfter(2, 3), [1, 2, 0]);
  // [A 0 1 2] -> [2 0 1]
  assert.deepEqual(orderAfter(1, 3), [2, 0, 1]);
  // [A B C 0] -> [A B 0] -> [A 0] -> [0]
  assert.deepEqual(orderAfter(3, 1), [0]);
  assert.deepEqual(orderAfter(0, 2), [0, 1]);
});

test("nobody gets a connection before the commit but the old process, and nobody after it but the new one", async () => {
  for (let own = 1; own <= 5; own++) {
    for (let fresh = 1; fresh <= 5; fresh++) await check(own, fresh, true);
    // The order of the descriptors is not that in which the sockets were opened. It has to be where
    // there are fewer new ones.
    for (let fresh = own; fresh <= 5; fresh++) await check(own, fresh, false);
  }
});

async function check(own: number, fresh: number, isOrdered: boolean): Promise<void> {
  const { libc, group, mine, candidates } = createKernel(own, 0);
  if (!isOrdered) group.reverse();
  let now = 0;
  const warnings: string[] = [];
  const { handover } = new Reuseport({
    program: {
      clock: {
        now: () => now,
        timer(milliseconds, callback) {
          now += milliseconds;
          setImmediate(callback);
          return () => {};
        },
        hold: () => () => {},
      },
      warn: (line) => warnings.push(line),
    },
    descriptors: () => undefined,
    libc: () => libc,
    isBound: () => false,
    shared: undefined,
  });
  const sent: { positions?: [string, number[]][] }[] = [];
  const side = handover.outgoing?.({
    signal: new AbortController().signal,
    generation: 1,
    pid: 1,
    disown: () => Promise.resolve(false),
    link: {
      sendsHandles: false,
      descriptors: undefined,
      send: (data) => Promise.resolve(void sent.push(data as object)),
      onData: () => {},
    },
  }) as OutgoingHandover;
  await side.prepare?.();
  side.beforeStart?.();
  for (let i = 0; i < fresh; i++) {
    group.push(100 + i);
    assert.ok(
      candidates().every((fd) => mine.has(fd)),
      "the new process listens, and is not in charge",
    );
  }
  await side.agree?.();
  await side.commit?.();
  assert.ok(candidates().every((fd) => !mine.has(fd)), "the new process is in charge");
  const seen: number[][] = [];
  const { dup3, setsockopt } = libc;
  libc.dup3 = (...args) => {
    const result = dup3(...args);
    seen.push(candidates());
    return result;
  };
  libc.setsockopt = (...args) => {
    const result = setsockopt(...args);
    seen.push(candidates());
    return result;
  };
  await side.retire?.(new AbortController().signal);
  assert.ok(group.every((fd) => !mine.has(fd)), "the old one has left");
  // With a single new socket the kernel hashes for a moment, and the old sockets are then given
  // time for what they got.
  if (fresh > 1) {
    assert.ok(
      seen.flat().every((fd) => !mine.has(fd)),
      `${own} old, ${fresh} new: ${JSON.stringify(seen)}`,
    );
  }
  assert.deepEqual(warnings, []);
  const [positions] = sent.flatMap(({ positions }) => positions ?? []);
  const expected = Array.from({ length: fresh }, (_, i) => group.indexOf(100 + i));
  if (isOrdered) {
    assert.deepEqual(
      positions?.[1],
      expected,
      "the new process knows where its sockets are in the end",
    );
  }
}
