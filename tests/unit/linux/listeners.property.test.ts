/** The listening sockets of this machine, as the C library shows them. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { readSocketAddress } from "../../../src/linux/addresses.ts";
import { countListeners, ownListeners } from "../../../src/linux/listeners.ts";
import { reuseportFilter } from "../../../src/linux/steering.ts";
import { createKernel, run } from "../../support/kernel.ts";
import { numberOf } from "../../support/number_of.ts";

const RUNS = numberOf("RUNS", 300);

test("a program names the sockets that it is told to, and no other", () => {
  fc.assert(
    fc.property(
      fc.nat(100),
      fc.integer({ min: 1, max: 100 }),
      fc.nat(2 ** 32 - 1),
      (first, count, random) => {
        const index = run(reuseportFilter(first, count), random);
        assert.ok(index >= first && index < first + count);
      },
    ),
    { numRuns: RUNS },
  );
});

test("/proc is read where the kernel knows no sock_diag", () => {
  const { libc } = createKernel(2, 3);
  assert.deepEqual([...countListeners(libc).values()], [5]);
  assert.equal(ownListeners(libc).length, 2);
});

test("addresses are read as the kernel writes them", () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 4, maxLength: 4 }), fc.nat(65_535), (address, port) => {
      const bytes = new Uint8Array(16);
      new Uint16Array(bytes.buffer)[0] = 2;
      new DataView(bytes.buffer).setUint16(2, port);
      bytes.set(address, 4);
      assert.equal(readSocketAddress(bytes)?.name, `${address.join(".")}:${port}`);
    }),
    { numRuns: RUNS },
  );
  const six = new Uint8Array(28);
  new Uint16Array(six.buffer)[0] = 10;
  assert.equal(readSocketAddress(six)?.name, "[::]:0");
  six.set([0x1f, 0x40], 2);
  six[23] = 1;
  assert.equal(readSocketAddress(six)?.name, "[0:0:0:0:0:0:0:1]:8000");
  assert.equal(readSocketAddress(new Uint8Array(16)), undefined);
});
