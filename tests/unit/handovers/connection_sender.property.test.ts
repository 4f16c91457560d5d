/**
 * Connections that move as handles and as descriptors, between two simulated processes, with
 * messages that are late.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { DescriptorChannel } from "../../../src/core/adapter.ts";
import type { LiveSocket } from "../../../src/core/live.ts";
import { type ConnectionHandlers, receiveConnections } from "../../../src/connections/receiver.ts";
import { createConnectionSender, type Departing } from "../../../src/connections/sender.ts";
import type { Link } from "../../../src/reload/handover.ts";
import type { HandoverData } from "../../../src/protocol/reload.ts";
import { createClock } from "../../support/clock.ts";

const tick = () => new Promise<void>((resolve) => setImmediate(resolve));

/** What is open in a process, by descriptor: the number of the connection. */
type Table = Map<number, number>;

function open(table: Table, connection: number): number {
  let fd = 3;
  while (table.has(fd)) fd++;
  table.set(fd, connection);
  return fd;
}

/**
 * Two processes, of which the new one may have `limit` descriptors. Nothing that one sends is read before `deliver`, and no time passes before
 * `advance`.
 */
function createScene(
  room: number,
  handlers: Partial<ConnectionHandlers>,
  { hasChannel = true, limit = Infinity } = {},
) {
  const old: Table = new Map();
  const next: Table = new Map();
  const toNew: (() => void)[] = [];
  const toOld: (() => void)[] = [];
  const gone = new AbortController();
  const { clock, advance } = createClock();
  /** The connections whose descriptors are on their way, by number. */
  const travelling = new Map<number, number[]>();
  let sent = 0;
  const none = (): never => assert.fail("not on this side");
  const sending: DescriptorChannel = {
    send(fds) {
      if (travelling.size >= room) return undefined;
      travelling.set(
        ++sent,
        fds.map((fd) => old.get(fd) ?? assert.fail("a descriptor is sent that is closed")),
      );
      return sent;
    },
    receive: none,
    hasRoom: none,
    discard: none,
    close() {},
  };
  const receiving: DescriptorChannel = {
    send: none,
    receive(number) {
      const connections = travelling.get(number) ?? [];
      travelling.delete(number);
      return connections.length === 0 || next.size + connections.length > limit
        ? undefined
        : connections.map((connection) => open(next, connection));
    },
    hasRoom: () => next.size < limit,
    discard: (fds) => fds.forEach((fd) => assert.ok(next.delete(fd))),
    close() {},
  };
  type Receive = (data: HandoverData, handle?: unknown) => void | Promise<void>;
  const link = (
    messages: (() => void)[],
    descriptors: DescriptorChannel,
    other: () => Receive | undefined,
  ): Link & {
    receiver?: Receive;
  } => ({
    sendsHandles: true,
    descriptors: hasChannel ? descriptors : undefined,
    send(data, handle) {
      messages.push(() => void other()?.(structuredClone(data), handle));
      return Promise.resolve();
    },
    onData(receive) {
      this.receiver = receive;
    },
  });
  const oldLink = link(toNew, sending, () => newLink.receiver);
  const newLink: typeof oldLink = link(toOld, receiving, () => oldLink.receiver);
  const disown = () => Promise.resolve(false);
  const sender = createConnectionSender(3, clock, {
    signal: gone.signal,
    generation: 1,
    pid: 2,
    link: oldLink,
    disown,
  });
  sender.open();
  // It takes longer than the next message does.
  const adopt = (handle: unknown) => tick().then(tick).then(() => handle as LiveSocket);
  receiveConnections({ adopt }, {
    link: newLink,
    offered: Promise.resolve(),
  }, {
    serve: () => true,
    ...handlers,
  });
  return {
    old,
    next,
    sender,
    gone,
    deliver: (to: "old" | "new") => (to === "new" ? toNew : toOld).shift()?.(),
    advance,
  };
}

test("each connection is served once, wherever, and no descriptor is left over, whatever is late", async () => {
  let counts = { taken: 0, back: 0, closed: 0 };
  const step = fc.constantFrom("new", "old", "new", "old", "advance");
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.boolean(), { minLength: 1, maxLength: 8 }),
      fc.integer({ min: 1, max: 3 }),
      fc.array(step, { minLength: 4, maxLength: 60, size: "max" }),
      fc.constantFrom("finish", "die"),
      fc.constantFrom(0, 1, 3, Infinity),
      async (kinds, room, steps, end, limit) => {
        /** Where each connection is served. */
        const served = { new: [] as number[], old: [] as number[] };
        const closed: number[] = [];
        let isDead = false;
        const scene = createScene(room, {
          serve(group) {
            if (!isDead) served.new.push(Number(group));
            return true;
          },
          serveDescriptor(group, fd, session, unread) {
            const number = Number(group);
            assert.deepEqual([session, [...unread], scene.next.get(fd)], [
              { number },
              [number],
              number,
            ]);
            if (number % 3 === 2) return false;
            served.new.push(number);
            return true;
          },
        }, { limit });
        kinds.forEach((isDescriptor, number) => {
          const fd = open(scene.old, number);
          const socket = { kernel: number, unshift() {}, destroy() {} };
          scene.sender.add({
            group: String(number),
            shared: isDescriptor ? { fd } : { handle: socket },
            session: { number },
            unread: Uint8Array.of(number),
            close() {
              assert.ok(scene.old.delete(fd), "it is closed once");
              closed.push(number);
            },
            giveBack: () => void served.old.push(number),
          });
        });
        const sending = scene.sender.sendAll().catch(() => {});
        for (const step of steps) {
          await tick();
          if (step === "advance") scene.advance();
          else scene.deliver(step);
        }
        await tick();
        if (end === "die") {
          isDead = true;
          scene.gone.abort();
          scene.sender.giveBack();
          served.new.length = 0;
          scene.next.clear();
        } else scene.sender.finish();
        for (let i = 0; i < 40; i++) {
          await tick();
          scene.advance();
          if (end === "finish") scene.deliver("new");
          scene.deliver("old");
        }
        await sending;

        const all = [...served.new, ...served.old];
        assert.equal(new Set(all).size, all.length, "none is served twice");
        assert.deepEqual(
          new Set([...scene.old.values()]),
          new Set(served.old),
          "the old process has what it serves",
        );
        const kept = served.new.filter((number) => kinds[number]).sort();
        assert.deepEqual(
          [...scene.next.values()].sort(),
          kept,
          "the new process has what it serves",
        );
        const lost = kinds.map((_, number) => number).filter((number) => !all.includes(number));
        assert.ok(lost.every((number) => closed.includes(number)), "what nobody serves is closed");
        counts = {
          taken: counts.taken + served.new.length,
          back: counts.back + served.old.length,
          closed: counts.closed + lost.length,
        };
      },
    ),
    { numRuns: 1_000 },
  );
  assert.ok(
    Object.values(counts).every((count) => count > 50),
    `all of it happened: ${JSON.stringify(counts)}`,
  );
});

for (
  const [what, expected, handlers, hasChannel] of [
    ["takes descriptors", true, { serveDescriptor: () => true }, true],
    ["of an earlier version takes none", false, {}, true],
    ["without a channel for descriptors takes none", false, { serveDescriptor: () => true }, false],
  ] as const
) {
  test(`a new process ${what}, which the old one knows when it has answered`, async () => {
    const scene = createScene(1, handlers, { hasChannel });
    const told = scene.sender.tell("begin");
    assert.equal(scene.sender.takesDescriptors, false);
    await tick();
    scene.deliver("new");
    await tick();
    scene.deliver("old");
    await told;
    assert.equal(scene.sender.takesDescriptors, expected);
  });
}

test("where there is never room for a descriptor, the connection stays in the old process", async () => {
  const scene = createScene(0, { serveDescriptor: () => true });
  const fd = open(scene.old, 0);
  let isBack = false;
  const connection: Departing = {
    group: "0",
    shared: { fd },
    unread: new Uint8Array(),
    close: () => assert.fail("it is closed"),
    giveBack: () => void (isBack = true),
  };
  scene.sender.add(connection);
  let failure: unknown;
  const sending = scene.sender.sendAll().catch((error) => failure = error);
  for (let i = 0; i < 5_000 && failure === undefined; i++) {
    await tick();
    scene.advance();
  }
  await sending;
  assert.match(String(failure), /takes no connections/);
  scene.sender.finish();
  assert.equal(isBack, true);
});
