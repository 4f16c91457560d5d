/** Replacing a file below a descriptor that is polled: all or nothing, whatever fails. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { pollAgain, stopPolling, type Unpolled } from "../../../src/linux/polling.ts";
import { scanSockets } from "../../../src/linux/socket_scan.ts";
import {
  giveBack,
  putBelow,
  replaceFile,
  replaceUnpolled,
  takeConnection,
  takeListener,
} from "../../../src/linux/transplant.ts";
import { simulateDescriptors } from "../../support/descriptors.ts";
import { numberOf } from "../../support/number_of.ts";

const RUNS = numberOf("RUNS", 300);
const EVENTS = 0x8000201d;
const DATA = 0xfedc_ba98_7654_3210n;

/**
 * A server's listening socket, its epoll instance, a further descriptor of both, and another
 * socket.
 */
function world(failsAt = 0, hasSecondEpoll = false) {
  const simulated = simulateDescriptors(failsAt);
  const { open, duplicate, poll } = simulated;
  const epoll = open("epoll");
  const bystander = open("socket");
  const fd = open("socket");
  const elsewhere = duplicate(fd); // Sent to another process: the file outlives the descriptor.
  poll(epoll, bystander, 1, 1n);
  poll(epoll, fd, EVENTS, DATA);
  const second = hasSecondEpoll ? duplicate(epoll) : undefined;
  const by = open("socket");
  return { ...simulated, epoll, second, fd, elsewhere, by, initial: simulated.describe() };
}

test("the registration is the same, and that of the old file is gone", () => {
  fc.assert(
    fc.property(fc.boolean(), fc.boolean(), (hasSecondEpoll, isBlocking) => {
      const { libc, table, fd, by, epoll } = world(0, hasSecondEpoll);
      table.get(by)!.nonBlocking = !isBlocking;
      assert.equal(replaceFile(libc, scanSockets(libc), fd, by), undefined);
      const file = table.get(by)!;
      assert.equal(table.get(fd), file);
      assert.ok(file.nonBlocking);
      assert.deepEqual(table.get(epoll)!.polled.slice(1), [{
        file,
        fd,
        events: EVENTS,
        data: DATA,
      }]);
    }),
  );
});

test("whatever fails, the descriptor is as it was, or replaced; no other is opened or lost", () => {
  const seen = new Set<string | undefined>();
  for (const hasSecondEpoll of [false, true]) {
    for (let failsAt = 1, failed = true; failed; failsAt++) {
      const { libc, table, fd, by, describe, calls, initial } = world(failsAt, hasSecondEpoll);
      const fds = [...table.keys()];
      const refusal = replaceFile(libc, scanSockets(libc), fd, by);
      seen.add(refusal);
      if (refusal !== undefined) assert.equal(describe(), initial, `call ${failsAt}: ${refusal}`);
      else assert.equal(table.get(fd), table.get(by));
      assert.deepEqual(new Set(table.keys()), new Set(fds));
      failed = calls() >= failsAt;
    }
  }
  assert.ok(seen.size >= 5, [...seen].join("; "));
});

test("what the scan does not find exactly once is not touched", () => {
  const cases: [string, (w: ReturnType<typeof world>) => void][] = [
    ["as the scan found it", ({ table, fd, libc, by }) => {
      libc.dup3(by, fd, 0);
      assert.ok(table.has(fd));
    }],
    ["as the scan found it", ({ libc, fd }) => void libc.close(fd)],
    ["2 ways", ({ open, poll, fd }) => poll(open("epoll"), fd, 1, 2n)],
    ["2 epoll instances", ({ open, poll, epoll, fd, table }) => {
      const other = open("epoll");
      for (const entry of table.get(epoll)!.polled) poll(other, entry.fd, entry.events, entry.data);
      assert.ok(fd);
    }],
    ["0 epoll instances", ({ table, epoll }) => void table.get(epoll)!.polled.pop()],
  ];
  for (const [reason, change] of cases) {
    const w = world();
    // Those of the beginning come before the scan, those that end something after it.
    const isBefore = reason.startsWith("2");
    if (isBefore) change(w);
    const scan = scanSockets(w.libc);
    if (!isBefore) change(w);
    const initial = w.describe();
    assert.match(replaceFile(w.libc, scan, w.fd, w.by) ?? "", new RegExp(reason));
    assert.equal(w.describe(), initial);
  }
});

test("a listening socket is taken out and given back any number of times", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 5 }), fc.boolean(), (times, hasSecondEpoll) => {
      const { libc, table, fd, describe, initial } = world(0, hasSecondEpoll);
      const file = table.get(fd);
      for (let i = 0; i < times; i++) {
        const taken = takeListener(libc, scanSockets(libc), fd);
        assert.ok(typeof taken !== "string", String(taken));
        assert.equal(table.get(taken.real), file);
        assert.notEqual(table.get(fd), file);
        assert.ok(table.get(fd)?.listening);
        assert.equal(giveBack(libc, scanSockets(libc), taken), undefined);
      }
      assert.equal(describe(), initial);
    }),
    { numRuns: RUNS },
  );
});

test("a socket is not given back to a server that has closed its descriptor, whoever has the number now", () => {
  const { libc, table, fd, open } = world();
  const taken = takeListener(libc, scanSockets(libc), fd);
  assert.ok(typeof taken !== "string");
  libc.close(fd);
  assert.match(giveBack(libc, scanSockets(libc), taken) ?? "", /has closed/);
  assert.equal(open("socket"), fd);
  const other = table.get(fd);
  assert.match(giveBack(libc, scanSockets(libc), taken) ?? "", /has closed/);
  assert.equal(table.get(fd), other);
  assert.ok(table.has(taken.real));
});

test("taking out and putting below leave nothing behind, whatever fails", () => {
  const ways: [string, (w: ReturnType<typeof world>) => unknown][] = [
    ["takeListener", ({ libc, fd }) => takeListener(libc, scanSockets(libc), fd)],
    ["takeConnection", ({ libc, fd }) => takeConnection(libc, scanSockets(libc), fd)],
    ["putBelow", ({ libc, fd, by }) => putBelow(libc, scanSockets(libc), fd, by)],
  ];
  for (const [name, act] of ways) {
    for (let failsAt = 1, failed = true; failed; failsAt++) {
      const w = world(failsAt, true);
      const inode = w.table.get(w.fd)?.inode;
      const others = [...w.table.keys()].filter((fd) => fd !== w.fd && fd !== w.by);
      const before = w.describe(others);
      const count = w.table.size;
      const result = act(w);
      failed = w.calls() >= failsAt;
      const opened = name === "putBelow" ? -1 : typeof result === "string" ? 0 : 1;
      assert.equal(w.table.size, count + opened, `${name}, call ${failsAt}: ${result}`);
      if (typeof result === "string") {
        assert.equal(w.table.get(w.fd)?.inode, inode);
        assert.equal(w.describe(others), before);
      }
    }
  }
});

test("a descriptor is not polled for a while, or is as it was", () => {
  for (const hasSecondEpoll of [false, true]) {
    for (let failsAt = 1, failed = true; failed; failsAt++) {
      const { libc, table, epoll, fd, describe, calls, initial } = world(failsAt, hasSecondEpoll);
      const stopped = stopPolling(libc, scanSockets(libc), fd);
      if (typeof stopped !== "string") {
        assert.equal(table.get(epoll)?.polled.length, 1);
        // Once more where that was the call that failed.
        if (pollAgain(libc, stopped) !== undefined) {
          assert.equal(pollAgain(libc, stopped), undefined);
        }
      }
      assert.equal(describe(), initial);
      failed = calls() >= failsAt;
    }
  }
  const { libc, fd, by } = world();
  const stopped = stopPolling(libc, scanSockets(libc), fd) as Unpolled;
  libc.dup3(by, fd, 0);
  assert.match(pollAgain(libc, stopped) ?? "", /has closed/);
});

test("of a socket's descriptors only those that nobody polls are replaced without a registration", () => {
  const { libc, table, fd, elsewhere, by, open } = world();
  const { inode } = table.get(fd)!;
  const other = open("socket");
  const scan = scanSockets(libc);
  assert.match(replaceUnpolled(libc, scan, fd, inode, by) ?? "", /is polled/);
  assert.match(replaceUnpolled(libc, scan, other, inode, by) ?? "", /another file/);
  assert.equal(replaceUnpolled(libc, scan, elsewhere, inode, by), undefined);
  assert.equal(table.get(elsewhere), table.get(by));
});
