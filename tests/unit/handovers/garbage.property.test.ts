/**
 * Anything in a message of a handover: nothing throws outside of the place where messages are
 * received.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { LiveSocket } from "../../../src/core/live.ts";
import type { ConnectionAdapter } from "../../../src/core/socket_adapter.ts";
import { createDatagramSocket } from "../../support/datagrams.ts";
import { createMachine, createServer } from "../../support/machine.ts";
import { createWorld, isUnderWay, type SimulatedProcess, type World } from "../../support/world.ts";
import { pack } from "../../../src/protocol/reload.ts";

const HANDOVERS = [
  "the live connections",
  "the datagram sockets",
  "the state",
  "the idle grace",
  "the bound servers",
  "the native servers",
  "the servers that are not bound",
  "the unix sockets",
  "the steering of native servers",
  "the idle connections",
  "the pid file /run/app.pid",
  "the status file",
  "systemd",
];
/** The members of all messages: garbage that has the right names goes further than any other. */
const MEMBERS =
  "ping pong socket connection id group session bytes unread taken refused sockets key isFree hold back close claim holds takes done error read " +
  "positions addresses isLast complete mustListen received piece end made paths pid predecessor number milliseconds follow followed disowned adopted";

const value = fc.oneof(
  fc.constantFrom(null, true, "", "x", 0, -1, NaN, "*:8000", "/run/app.sock"),
  fc.anything({ maxDepth: 3 }),
  fc.array(fc.anything({ maxDepth: 1 }), { maxLength: 3 }),
  fc.constant("x".repeat(2 ** 16)),
);
const data = fc.oneof(
  { weight: 1, arbitrary: value },
  {
    weight: 4,
    arbitrary: fc.dictionary(fc.constantFrom(...MEMBERS.split(" ")), value, { maxKeys: 4 }),
  },
);
const message = fc.record({
  name: fc.constantFrom(...HANDOVERS),
  data,
  toSuccessor: fc.boolean(),
  /** How many messages are delivered before. */
  after: fc.nat(12),
});

const ignore: ConnectionAdapter = {
  window: 4,
  stop() {},
  start() {},
  handle: () => ({}),
  serveIdle() {},
  adopt: (handle) => Promise.resolve(handle as LiveSocket),
};

function createScene(): { world: World; old: SimulatedProcess } {
  const isAlive = (pid: number) =>
    world.processes.some((process) => process.pid === pid && process.exit === undefined);
  const machine = createMachine(isAlive, { NOTIFY_SOCKET: "/run/systemd/notify" });
  const world: World = createWorld({
    options: {
      ready: "auto",
      probation: 100,
      idleGrace: 100,
      pidFile: "/run/app.pid",
      saveState: () => 1,
    },
    machine(process) {
      const { sockets, service } = machine.adapter(process);
      return { sockets: sockets && { ...sockets, connections: ignore }, service };
    },
    async onBoot({ token, pid }) {
      token?.live("group", { accept() {}, release: () => undefined });
      const bound = token?.bind(createServer(), { port: 8000 });
      token?.path("/run/app.sock").then((made) => machine.serveAt(made, pid), () => {});
      token?.bind(createDatagramSocket(), { port: 8000 }).catch(() => {});
      await bound?.catch(() => {});
    },
  });
  return { world, old: world.begin() };
}

const send = (raw: unknown) => {
  try {
    return structuredClone(raw);
  } catch {
    return undefined; // What no channel can carry.
  }
};

test("garbage for any handover, at any moment, in either process", async () => {
  const thrown: unknown[] = [];
  const listener = (error: unknown) => void thrown.push(error);
  process.on("uncaughtException", listener).on("unhandledRejection", listener);
  const outcomes = new Set<string>();
  try {
    await fc.assert(
      fc.asyncProperty(fc.array(message, { minLength: 1, maxLength: 3 }), async (messages) => {
        const { world, old } = createScene();
        for (let i = 0; i < 6; i++) {
          await world.settle();
          if (!world.deliver(0)) await world.tick();
        }
        old.token?.reload().catch(() => {});
        await world.settle();
        const next = world.processes.at(-1) as SimulatedProcess;
        world.boot(next);
        for (const { name, data, toSuccessor, after } of messages) {
          for (let i = 0; i < after; i++) {
            await world.settle();
            world.deliver(0);
          }
          const raw = { ...pack({ type: "data", name, data: {} }) as object, data: send(data) };
          if (toSuccessor) world.tell(next, raw);
          else world.say(next, raw);
        }
        for (let i = 0; i < 200 && isUnderWay(old); i++) {
          await world.settle();
          if (!world.deliver(0)) await world.tick();
        }
        await world.settle();
        assert.deepEqual(thrown, []);
        assert.ok(!isUnderWay(old), "the reload has an outcome");
        for (const { type } of old.events) {
          if (type === "reload-fail" || type === "reload-end") outcomes.add(type);
        }
      }),
      { numRuns: 400 },
    );
  } finally {
    process.off("uncaughtException", listener).off("unhandledRejection", listener);
  }
  assert.deepEqual([...outcomes].sort(), ["reload-end", "reload-fail"]);
});
