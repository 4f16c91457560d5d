/** The group of sockets that share an address, as net/core/sock_reuseport.c keeps it, and whom our programs name in it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Libc } from "../../core/socket_adapter.ts";
import { countListeners, ownListeners, program, readSocketAddress } from "../../sockets/reuseport.ts";
import { createSteering, orderAfter } from "../../sockets/steering.ts";

const RUNS = Number(process.env.RUNS ?? 300);

/** What a program returns for a random number; linux/filter.h. */
function run(instructions: [code: number, k: number][], random: number): number {
  let a = 0;
  for (const [code, k] of instructions) {
    if (code === 0x06) return k;
    if (code === 0x20) a = random;
    else if (code === 0x94) a %= k;
    else if (code === 0x04) a += k;
    else if (code === 0x16) return a;
  }
  throw new Error("no return");
}

test("a program names the sockets that it is told to, and no other", () => {
  fc.assert(
    fc.property(fc.nat(100), fc.integer({ min: 1, max: 100 }), fc.nat(2 ** 32 - 1), (first, count, random) => {
      const index = run(program(first, count), random);
      assert.ok(index >= first && index < first + count);
    }),
    { numRuns: RUNS },
  );
});

test("the order of the new sockets is known when the old ones have left", () => {
  fc.assert(
    fc.property(fc.nat(8), fc.nat(8), (old, fresh) => {
      const group = [...Array(old).keys()].map((i) => `old ${i}`).concat([...Array(fresh).keys()].map((i) => `new ${i}`));
      for (let i = old - 1; i >= 0; i--) {
        // reuse->socks[i] = reuse->socks[reuse->num_socks - 1]
        group[i] = group.at(-1) as string;
        group.pop();
      }
      assert.deepEqual(orderAfter(old, fresh).map((i) => `new ${i}`), group);
    }),
    { numRuns: RUNS },
  );
});

/** A kernel that has one group of sockets, and nothing else. */
function createKernel(own: number, fresh: number) {
  const group = [...Array(own).keys()].map((i) => 10 + i).concat([...Array(fresh).keys()].map((i) => 100 + i));
  const mine = new Set(group.slice(0, own));
  let instructions: [number, number][] | undefined;
  const filters = new Map<bigint, Uint8Array>();
  let next = 1n;
  const put = (buffer: Uint8Array, value: number) => new Uint32Array(buffer.buffer)[0] = value;
  const libc: Libc = {
    socket: (domain) => domain === 16 ? -1 : 200,
    bind: () => 0,
    listen: () => 0,
    close: () => 0,
    write: (_fd, _buffer, count) => count,
    dup3(_from, to) {
      const i = group.indexOf(to);
      group[i] = group.at(-1) as number;
      group.pop();
      return to;
    },
    getsockopt(fd, _level, name, value, length) {
      if (!mine.has(fd) || !group.includes(fd)) return -1;
      put(value, name === 11 ? 0 : 1);
      put(length, 4);
      return 0;
    },
    setsockopt(_fd, _level, name, value) {
      if (name === 68) instructions = undefined;
      if (name !== 51) return 0;
      const filter = filters.get(new BigUint64Array(value.buffer)[1] as bigint) as Uint8Array;
      instructions = Array.from({ length: filter.length / 8 }, (_, i) => [
        new Uint16Array(filter.buffer, 8 * i, 1)[0] as number,
        new Uint32Array(filter.buffer, 8 * i + 4, 1)[0] as number,
      ]);
      return 0;
    },
    getsockname(_fd, address) {
      new Uint16Array(address.buffer)[0] = 2;
      address.set([0x1f, 0x40, 127, 0, 0, 1], 2);
      return 0;
    },
    open: (path) =>
      new TextDecoder().decode(path).includes("status") ? 300 : new TextDecoder().decode(path).includes("tcp6") ? 302 : 301,
    read(fd, buffer) {
      const line = "   0: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1\n";
      const text = fd === 300 ? "FDSize:\t256\n" : fd === 301 ? line.repeat(group.length) : "";
      if (reads.get(fd) === text) {
        reads.delete(fd);
        return 0;
      }
      reads.set(fd, text);
      buffer.set(new TextEncoder().encode(text));
      return new TextEncoder().encode(text).length;
    },
    addressOf(buffer) {
      filters.set(next, buffer);
      return next++;
    },
  };
  const reads = new Map<number, string>();
  /** Everybody who could get the next connection; the kernel hashes where the program names nobody. */
  function candidates(): number[] {
    const indices = new Set(instructions === undefined ? [-1] : Array.from({ length: 64 }, (_, i) => run(instructions!, i)));
    return [...new Set([...indices].flatMap((index) => group[index] === undefined ? group : [group[index] as number]))];
  }
  return { libc, group, mine, candidates };
}

test("/proc is read where the kernel knows no sock_diag", () => {
  const { libc } = createKernel(2, 3);
  assert.deepEqual([...countListeners(libc).values()], [5]);
  assert.equal(ownListeners(libc).length, 2);
});

test("nobody gets a connection before the commit but the old process, and nobody after it but the new one", async () => {
  for (let own = 1; own <= 5; own++) {
    for (let fresh = 1; fresh <= 5; fresh++) {
      const { libc, group, mine, candidates } = createKernel(own, 0);
      let now = 0;
      const warnings: string[] = [];
      const { participant } = createSteering({
        clock: {
          now: () => now,
          timer(milliseconds, callback) {
            now += milliseconds;
            setImmediate(callback);
            return () => {};
          },
          hold: () => () => {},
        },
        descriptors: () => undefined,
        libc: () => Promise.resolve(libc),
        isBound: () => false,
        shared: undefined,
        warn: (line) => warnings.push(line),
      });
      const context = { signal: new AbortController().signal, generation: 1, pid: 1, disown: () => Promise.resolve(false) };
      await participant.prepare?.(context);
      for (let i = 0; i < fresh; i++) {
        group.push(100 + i);
        assert.ok(candidates().every((fd) => mine.has(fd)), "the new process listens, and is not in charge");
      }
      await participant.agree?.(context);
      await participant.commit?.(context);
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
      await participant.retire?.(new AbortController().signal, context);
      assert.ok(group.every((fd) => !mine.has(fd)), "the old one has left");
      // With a single new socket the kernel hashes for a moment, and the old sockets are then given time for what they got.
      if (fresh > 1) assert.ok(seen.flat().every((fd) => !mine.has(fd)), `${own} old, ${fresh} new: ${JSON.stringify(seen)}`);
      assert.deepEqual(warnings, []);
    }
  }
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
