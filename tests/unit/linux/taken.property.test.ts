/**
 * Taking sockets out of a server: what it does not let go of is as it was, and nothing is left
 * open, whatever fails.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { scanSockets } from "../../../src/linux/socket_scan.ts";
import { takeClosed } from "../../../src/linux/idle_http.ts";
import { setReading } from "../../../src/linux/polling.ts";
import { takeable } from "../../../src/linux/taken_listener.ts";
import { simulateDescriptors } from "../../support/descriptors.ts";
import { numberOf } from "../../support/number_of.ts";

const RUNS = numberOf("RUNS", 300);

/** A server with so many connections. */
function world(connections: number, failsAt = 0) {
  const simulated = simulateDescriptors(failsAt);
  const epoll = simulated.open("epoll");
  const fds = Array.from({ length: connections }, () => simulated.open("socket"));
  fds.forEach((fd, i) => simulated.poll(epoll, fd, 0x2001, BigInt(i)));
  return { ...simulated, epoll, fds };
}

test("what the server closes is taken, and the rest is as it was", () => {
  fc.assert(
    fc.property(fc.array(fc.boolean(), { minLength: 1, maxLength: 6 }), (idle) => {
      const { libc, table, fds, describe } = world(idle.length);
      const files = fds.map((fd) => table.get(fd));
      const count = table.size;
      const taken = takeClosed(libc, fds, () => fds.forEach((fd, i) => idle[i] && libc.close(fd)));
      assert.deepEqual(taken.map((fd) => table.get(fd)), files.filter((_, i) => idle[i]));
      fds.forEach((fd, i) => idle[i] || assert.equal(table.get(fd), files[i]));
      assert.equal(table.size, count, describe());
    }),
    { numRuns: RUNS },
  );
});

test("where the descriptors do not suffice for all, the server is asked for none", () => {
  const idle = [true, false, true, false];
  // The pair, a spare descriptor for each, and the message.
  for (let failsAt = 1; failsAt <= 1 + idle.length + 1; failsAt++) {
    const { libc, fds, describe } = world(idle.length, failsAt);
    const before = describe();
    let isAsked = false;
    assert.deepEqual(takeClosed(libc, fds, () => isAsked = true), []);
    assert.equal(isAsked, false, `call ${failsAt}`);
    assert.equal(describe(), before, `call ${failsAt}`);
  }
});

test("reading stops and begins, and the registration is that of before", () => {
  const { libc, fds: [fd], describe } = world(2);
  assert.ok(fd !== undefined);
  const before = describe();
  const scan = scanSockets(libc);
  assert.equal(setReading(libc, scan, fd, false), true);
  assert.match(describe(), / 8192 0/);
  assert.equal(setReading(libc, scan, fd, true), true);
  assert.equal(describe(), before);
  libc.close(fd);
  assert.equal(setReading(libc, scan, fd, false), false);
});

test("a listening socket is back when the last of those that took it gives it back", () => {
  fc.assert(
    fc.property(fc.array(fc.boolean(), { maxLength: 12 }), (steps) => {
      const { libc, table, fds: [fd], describe } = world(1);
      assert.ok(fd !== undefined);
      const [file, before] = [table.get(fd), describe()];
      const listener = takeable(libc, fd);
      let reasons = 0;
      for (const takes of steps) {
        assert.equal(takes ? listener.take() : listener.giveBack(), undefined);
        reasons = takes ? reasons + 1 : Math.max(0, reasons - 1);
        assert.equal(table.get(fd) === file, reasons === 0);
      }
      while (reasons-- > 0) listener.giveBack();
      assert.equal(describe(), before);
      listener.take();
      listener.close();
      assert.ok(![...table.values()].includes(file as never), "closed for good");
    }),
    { numRuns: RUNS },
  );
});
