/** What the kernel writes for sockets: fdinfo, control messages, addresses. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Libc } from "../../../src/core/socket_adapter.ts";
import { readEndpoint, readPort } from "../../../src/linux/addresses.ts";
import { messageHeader, readControl, rightsFor } from "../../../src/linux/control_messages.ts";
import {
  describeEnd,
  inheritedEnd,
  receiveDescriptors,
} from "../../../src/linux/descriptor_channel.ts";
import { createRegistrations } from "../../../src/linux/socket_scan.ts";
import { epollEvent } from "../../../src/linux/transplant.ts";
import { simulateDescriptors } from "../../support/descriptors.ts";
import { numberOf } from "../../support/number_of.ts";

const numRuns = numberOf("RUNS", 300);
const descriptor = fc.nat(2 ** 31 - 1);
const entry = fc.record({
  fd: fc.nat(100_000),
  events: fc.nat(2 ** 32 - 1),
  data: fc.bigInt(0n, 2n ** 64n - 1n),
  inode: fc.nat(2 ** 32 - 1),
});

/** As ep_show_fdinfo in the kernel's fs/eventpoll.c. */
const line = (
  { fd, events, data, inode }: { fd: number; events: number; data: bigint; inode: number },
) =>
  `tfd: ${String(fd).padStart(8)} events: ${events.toString(16).padStart(8)} data: ${
    data.toString(16).padStart(16)
  }  ` +
  `pos:0 ino:${inode.toString(16)} sdev:9\n`;
const HEAD = "pos:\t0\nflags:\t02000002\nmnt_id:\t17\nino:\t20\n";

test("registrations are read as they were written, those of a duplicate of the instance once", () => {
  fc.assert(
    fc.property(fc.array(entry, { minLength: 1 }), (entries) => {
      const registrations = createRegistrations();
      const text = HEAD + entries.map(line).join("");
      registrations.add([3], text);
      registrations.add([5], text);
      const read = [...new Set(entries.map(({ fd }) => fd))].flatMap((fd) =>
        registrations.of(fd).map((registration) => ({ fd, ...registration }))
      );
      assert.equal(read.length, entries.length);
      for (const { fd, events, data, inode } of entries) {
        const of = registrations.of(fd).find((one) =>
          one.events === events && one.data === data && one.inode === inode
        );
        assert.deepEqual(of?.epolls, [3, 5]);
      }
      assert.deepEqual(registrations.epolls, [[3, 5]]);
    }),
    { numRuns },
  );
});

test("what another thread adds or ends between two reads of an instance makes no second instance", () => {
  const different = { minLength: 2, selector: ({ fd }: { fd: number }) => fd };
  fc.assert(
    fc.property(fc.uniqueArray(entry, different), fc.integer(), (entries, seed) => {
      const registrations = createRegistrations();
      const [kept, ...rest] = entries as [typeof entries[number], ...typeof entries];
      const middle = Math.abs(seed) % rest.length;
      registrations.add([3], HEAD + [kept, ...rest.slice(middle)].map(line).join(""));
      registrations.add([5], HEAD + [kept, ...rest.slice(0, middle + 1)].map(line).join(""));
      for (const { fd } of entries) {
        assert.deepEqual(registrations.of(fd).map(({ epolls }) => epolls), [[3, 5]]);
      }
    }),
    { numRuns },
  );
});

test("an instance without registrations, an old kernel, and garbage give none", () => {
  fc.assert(
    fc.property(
      fc.oneof(fc.string(), fc.constant(HEAD), fc.constant("tfd: 5 events: 1d data: 1\n")),
      (text) => {
        const registrations = createRegistrations();
        registrations.add([3], text);
        assert.deepEqual(registrations.of(5), []);
      },
    ),
    { numRuns },
  );
});

test("descriptors in a control message are read as they were written", () => {
  fc.assert(
    fc.property(fc.array(descriptor, { minLength: 1, maxLength: 253 }), (fds) => {
      assert.deepEqual(readControl(rightsFor(fds)), { fds, isClean: true });
    }),
    { numRuns },
  );
});

test("all descriptors are found in several control messages, and that there are several", () => {
  const rights = fc.array(descriptor, { minLength: 1, maxLength: 20 });
  fc.assert(
    fc.property(rights, rights, (first, second) => {
      const both = new Uint8Array([...rightsFor(first), ...rightsFor(second)]);
      assert.deepEqual(readControl(both), { fds: [...first, ...second], isClean: false });
    }),
    { numRuns },
  );
});

test("no control message makes more of itself than its bytes", () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 200 }),
      fc.nat(200),
      fc.boolean(),
      (garbage, length, looksRight) => {
        // A header that is right, before a body and a length that need not be.
        if (looksRight && garbage.length >= 16) {
          const view = new DataView(garbage.buffer, garbage.byteOffset);
          view.setBigUint64(0, BigInt(length), true);
          view.setUint32(8, 1, true);
          view.setUint32(12, 1, true);
        }
        const { fds } = readControl(garbage);
        assert.ok(fds.length * 4 <= Math.max(0, garbage.length - 16));
        assert.ok(fds.every((fd) => Number.isInteger(fd) && fd >= 0));
      },
    ),
    { numRuns },
  );
});

/** A kernel in which one message waits. */
function withMessage(
  data: readonly number[],
  control: Uint8Array,
  flags: number,
  closed: number[],
): Libc {
  const { libc } = simulateDescriptors();
  const memory = new Map<bigint, Uint8Array>();
  return {
    ...libc,
    addressOf(bytes) {
      const address = BigInt(memory.size + 1) << 20n;
      memory.set(address, bytes);
      return address;
    },
    recvmsg(_fd, message) {
      const words = new BigUint64Array(message.buffer);
      const [, , vector, , into] = words;
      const [at] = new BigUint64Array(memory.get(vector as bigint)!.buffer);
      const bytes = new Uint8Array(new Uint32Array(data).buffer);
      memory.get(at as bigint)!.set(bytes);
      memory.get(into as bigint)!.set(control);
      words[5] = BigInt(control.length);
      new Int32Array(message.buffer)[12] = flags;
      return bytes.length;
    },
    close: (fd) => (closed.push(fd), 0),
  };
}

test("a message is received as it was sent, or not at all, and then all that came is closed", () => {
  const fds = fc.uniqueArray(descriptor, { minLength: 1, maxLength: 100 });
  fc.assert(
    fc.property(
      fds,
      fc.nat(2 ** 32 - 1),
      fc.constantFrom("right", "truncated", "fewer", "no tag", "two"),
      (fds, tag, what) => {
        const closed: number[] = [];
        const count = what === "fewer" ? fds.length + 1 : fds.length;
        const control = rightsFor(fds);
        const libc = withMessage(
          what === "no tag" ? [tag] : [tag, count],
          what === "two" ? new Uint8Array([...control, ...rightsFor([1])]) : control,
          what === "truncated" ? 8 : 0,
          closed,
        );
        const received = receiveDescriptors(libc, 3);
        if (what === "right") {
          return assert.deepEqual([received, closed], [{
            kind: "descriptors",
            tag,
            fds,
          }, []]);
        }
        assert.equal(received.kind, "invalid");
        assert.deepEqual(closed, what === "two" ? [...fds, 1] : fds);
      },
    ),
    { numRuns },
  );
});

test("an inherited end is known by its inode", () => {
  const { libc, open } = simulateDescriptors();
  const [socket, epoll] = [open("socket"), open("epoll")];
  assert.equal(inheritedEnd(libc, describeEnd(libc, socket, socket)), socket);
  const inode = describeEnd(libc, socket, socket).split(":")[1];
  for (
    const wrong of [
      `${epoll}:${inode}`,
      `${socket}:1`,
      `9:${inode}`,
      "",
      ":",
      `${socket}`,
      `-1:${inode}`,
      "1e1:9",
      "9:undefined",
    ]
  ) {
    assert.equal(inheritedEnd(libc, wrong), undefined, wrong);
  }
});

test("struct msghdr and struct epoll_event are laid out as the kernel has them", () => {
  let next = 0n;
  const { bytes } = messageHeader(
    { addressOf: () => ++next },
    new Uint8Array(8),
    new Uint8Array(24),
  );
  const words = new BigUint64Array(bytes.buffer);
  assert.equal(bytes.length, 56);
  assert.deepEqual([words[2] !== 0n, words[3], words[4] !== 0n, words[5]], [true, 1n, true, 24n]);
  const data = 0x0123_4567_89ab_cdefn;
  assert.deepEqual([...epollEvent({ epollEventBytes: 12 }, 0x8000_0001, data)], [
    1,
    0,
    0,
    128,
    0xef,
    0xcd,
    0xab,
    0x89,
    0x67,
    0x45,
    0x23,
    1,
  ]);
  const padded = epollEvent({ epollEventBytes: 16 }, 1, data);
  assert.deepEqual([padded.length, padded[0], ...padded.slice(4, 9)], [16, 1, 0, 0, 0, 0, 0xef]);
});

test("the ends of unix sockets, and what is too short", () => {
  const unix = (path: string) => new Uint8Array([1, 0, ...new TextEncoder().encode(path)]);
  assert.equal(readEndpoint(unix("/run/x.sock\0"))?.name, "/run/x.sock");
  assert.equal(readEndpoint(unix("\0name\0"))?.name, "@name\0");
  assert.equal(readEndpoint(unix(""))?.name, "");
  assert.equal(readPort(unix("abcd")), undefined);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), fc.constantFrom(0, 1, 2, 10), (bytes, family) => {
      bytes[0] = family;
      if (bytes.length > 1) bytes[1] = 0;
      const end = readEndpoint(bytes);
      if (end !== undefined) assert.equal(end.port, readPort(bytes));
    }),
    { numRuns },
  );
});
