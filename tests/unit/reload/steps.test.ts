/** Single steps of a reload, in the simulated world. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { ReloadError } from "../../../src/core/error.ts";
import { pack } from "../../../src/protocol/reload.ts";
import type { Handover, OutgoingHandover } from "../../../src/reload/handover.ts";
import {
  createWorld,
  deliverAll,
  expectedTimers,
  type SimulatedProcess,
  type World,
} from "../../support/world.ts";

/** Boots the newest process, makes it ready, and delivers everything. */
async function complete(world: World): Promise<SimulatedProcess> {
  const child = world.processes.at(-1) as SimulatedProcess;
  world.boot(child);
  child.token?.ready();
  await deliverAll(world);
  return child;
}

/** Delivers messages until something has happened. */
async function deliverUntil(world: World, happened: () => boolean): Promise<void> {
  while (!happened()) {
    world.deliver(0);
    await world.settle();
  }
}

/** Begins a reload, and returns the new process and the outcome. */
async function begin(world: World, old: SimulatedProcess) {
  const outcome = old.token?.reload().catch((error) => error) as Promise<unknown>;
  await world.settle();
  return { child: world.processes.at(-1) as SimulatedProcess, outcome };
}

/** A reload fails with this code, and the old process can reload again. */
async function fails(
  world: World,
  old: SimulatedProcess,
  outcome: Promise<unknown>,
  code: string,
): Promise<ReloadError> {
  await deliverAll(world);
  const error = await outcome;
  assert.ok(error instanceof ReloadError, String(error));
  assert.equal(error.code, code);
  assert.equal(old.token?.isCancelled, false);
  const next = await begin(world, old);
  const successor = await complete(world);
  assert.equal(await next.outcome, successor.pid);
  return error;
}

test("the steps of two handovers, in order", async () => {
  const steps: string[] = [];
  const handover = (name: string, process: SimulatedProcess): Handover => {
    const log = (step: string) => void steps.push(`${process.generation} ${name} ${step}`);
    return {
      name,
      incoming({ link }) {
        log("new side");
        link.onData(({ text }) => {
          log(`got ${text}`);
          return link.send({ text: `thanks for ${text}` });
        });
        return { takeOver: () => log("take over"), over: () => log("over") };
      },
      outgoing(reload) {
        const answer = new Promise((resolve) => reload.link.onData(({ text }) => resolve(text)));
        return {
          prepare: () => log(`prepare ${reload.pid} ${reload.generation}`),
          beforeStart: () => log("before start"),
          started: () => log(`started ${reload.pid}`),
          async offer() {
            log(`offer ${reload.pid}`);
            await reload.link.send({ text: `the ${name}` });
            log(`got ${await answer}`);
          },
          agree: () => log("agree"),
          commit: () => log("commit"),
          handedOver: () => log("handed over"),
          beforeRetire: () => log("before retire"),
          retire: () => log("retire"),
          rollback: () => log("rollback"),
        };
      },
    };
  };
  const world = createWorld({
    handovers: (process) => ["socket", "file"].map((name) => handover(name, process)),
  });
  const old = world.begin();
  const { outcome } = await begin(world, old);
  const child = await complete(world);
  assert.equal(await outcome, child.pid);
  assert.deepEqual(steps, [
    "0 socket prepare undefined 1",
    "0 file prepare undefined 1",
    "0 socket before start",
    "0 file before start",
    `0 socket started ${child.pid}`,
    `0 file started ${child.pid}`,
    "1 socket new side",
    "1 file new side",
    `0 socket offer ${child.pid}`,
    "1 socket got the socket",
    "0 socket got thanks for the socket",
    `0 file offer ${child.pid}`,
    "1 file got the file",
    "0 file got thanks for the file",
    "0 socket agree",
    "0 file agree",
    "0 socket commit",
    "0 file commit",
    "1 socket take over",
    "1 file take over",
    "0 socket handed over",
    "0 file handed over",
    "0 socket before retire",
    "0 file before retire",
    "0 socket retire",
    "0 file retire",
    "1 socket over",
    "1 file over",
  ]);
});

for (const step of ["prepare", "beforeStart", "started", "offer", "agree", "commit"] as const) {
  test(`a handover that cannot ${step} rolls back all that were asked, the last one first`, async () => {
    const undone: string[] = [];
    let broken = true;
    const world = createWorld({
      handovers: () => [
        {
          name: "first",
          outgoing: () => ({ rollback: (reason) => void undone.push(`first: ${reason.message}`) }),
        },
        {
          name: "second",
          outgoing: () => ({
            [step]() {
              if (broken) throw new Error("disk full");
            },
            rollback() {
              undone.push("second");
              throw new Error("cannot undo");
            },
          }),
        },
        { name: "third", outgoing: () => ({ rollback: () => void undone.push("third") }) },
      ],
    });
    const old = world.begin();
    const { outcome } = await begin(world, old);
    const isStarted = step !== "prepare" && step !== "beforeStart";
    if (isStarted) await complete(world);
    broken = false;
    const asked = step === "prepare" ? [] : ["third"];
    const error = await fails(world, old, outcome, "handover");
    assert.match(
      error.message,
      new RegExp(
        `^second could not ${
          { started: "go on", beforeStart: "begin" }[step as string] ?? step
        }: disk full$`,
      ),
    );
    assert.deepEqual(undone, [...asked, "second", `first: ${error.message}`]);
    assert.equal(old.events.filter(({ type }) => type === "rollback-fail").length, 1);
    assert.equal(world.processes.filter(({ parent }) => parent === old).length, isStarted ? 2 : 1);
  });
}

test("a handover that hangs is stopped by the deadline", async () => {
  let stopped: unknown;
  let broken = true;
  const world = createWorld({
    handovers: () => [{
      name: "slow",
      outgoing: ({ signal }): OutgoingHandover => ({
        prepare() {
          if (!broken) return;
          return new Promise((_, reject) =>
            signal.addEventListener("abort", () => reject(stopped = signal.reason))
          );
        },
      }),
    }],
  });
  const old = world.begin();
  const { outcome } = await begin(world, old);
  await world.tick();
  broken = false;
  assert.equal(stopped, await fails(world, old, outcome, "timeout"));
});

test("a process that cannot be started", async () => {
  let cause: unknown = new Error("no such file");
  const world = createWorld({
    start() {
      if (cause !== undefined) throw cause;
    },
  });
  const old = world.begin();
  const { outcome } = await begin(world, old);
  await outcome;
  const error = cause;
  cause = undefined;
  assert.equal((await fails(world, old, outcome, "start")).cause, error);
});

test("a shutdown while the process is being started leaves none behind", async () => {
  const world = createWorld({ start: () => world.signal(old, "SIGTERM") });
  const old = world.begin();
  const { outcome } = await begin(world, old);
  await deliverAll(world);
  assert.equal(((await outcome) as ReloadError).code, "cancelled");
  assert.equal(world.processes[1]?.exit?.signal, "SIGKILL");
});

test("a shutdown at any event of a reload leaves nobody behind", async () => {
  for (const type of ["reload-begin", "successor-start", "successor-ready"]) {
    const world = createWorld({
      onEvent: (process, event) => event.type === type && process.token?.cancel(),
    });
    const old = world.begin();
    const { outcome } = await begin(world, old);
    if (world.processes.length > 1) await complete(world);
    assert.equal(((await outcome) as ReloadError).code, "cancelled", type);
    assert.deepEqual(
      world.processes.filter((process) => process !== old && process.exit === undefined),
      [],
    );
  }
});

const garbage: [what: string, messages: unknown[]][] = [
  ["a foreign message", [{ hello: 1 }]],
  ["no object", ["ready"]],
  ["ready before hello", [pack({ type: "ready" })]],
  ["a second hello", [pack({ type: "hello", pid: 1 }), pack({ type: "hello", pid: 1 })]],
  ["in charge without being told", [
    pack({ type: "hello", pid: 1 }),
    pack({ type: "ready" }),
    pack({ type: "in-charge" }),
  ]],
  ["data for a handover that is not there", [
    pack({ type: "hello", pid: 1 }),
    pack({ type: "data", name: "x", data: {} }),
  ]],
];
for (const [what, messages] of garbage) {
  test(`garbage: ${what}`, async () => {
    const world = createWorld();
    const old = world.begin();
    const { child, outcome } = await begin(world, old);
    for (const message of messages) world.say(child, message);
    while (world.deliver(0));
    await fails(world, old, outcome, "protocol");
    assert.ok(child.reaped);
  });
}

test("a successor that shuts down before it is in charge says so", async () => {
  const world = createWorld();
  const old = world.begin();
  const { child, outcome } = await begin(world, old);
  world.boot(child);
  world.signal(child, "SIGTERM");
  const error = await fails(world, old, outcome, "refused");
  assert.match(error.message, /shutting down/);
});

test("a successor that shuts down just before it is told to take over does not", async () => {
  const world = createWorld();
  const old = world.begin();
  const { child, outcome } = await begin(world, old);
  world.boot(child);
  child.token?.ready();
  await deliverUntil(world, () => old.events.some(({ type }) => type === "successor-ready"));
  world.signal(child, "SIGTERM"); // The commit is on its way.
  assert.equal(child.inCharge, false);
  await fails(world, old, outcome, "refused");
});

test("a frozen process looks for the answer once more before it kills a successor that has taken over", async () => {
  const world = createWorld();
  const old = world.begin();
  const { child, outcome } = await begin(world, old);
  world.boot(child);
  child.token?.ready();
  await deliverUntil(world, () => child.inCharge);
  await world.tick(); // The deadline of the reload, before the answer is read.
  await world.tick();
  await deliverAll(world);
  assert.equal(await outcome, child.pid);
  assert.equal(child.exit, undefined);
});

test("a successor that does not take over is killed some time after the deadline", async () => {
  const world = createWorld();
  const old = world.begin();
  const { child, outcome } = await begin(world, old);
  world.say(child, pack({ type: "hello", pid: child.pid }));
  world.say(child, pack({ type: "ready" }));
  await deliverAll(world);
  await world.tick();
  assert.equal(child.exit, undefined);
  await world.tick();
  await fails(world, old, outcome, "timeout");
});

test("what is said after the reload is over does no harm", async () => {
  const world = createWorld();
  const old = world.begin();
  await begin(world, old);
  const child = await complete(world);
  world.say(child, { hello: 1 });
  await deliverAll(world);
  assert.equal(child.exit, undefined);
  assert.equal(old.timers, expectedTimers(old));
});

test("a successor takes over once, also when its predecessor leaves", async () => {
  const world = createWorld();
  const old = world.begin();
  await begin(world, old);
  const child = await complete(world);
  world.end(old, { code: 0, signal: null });
  await deliverAll(world);
  assert.deepEqual(child.events.filter(({ type }) => type === "in-charge"), [
    { type: "in-charge", generation: 1, predecessor: "handed over" },
  ]);
});

test("a second reload() during a reload gets the same new process; a shutdown rejects both", async () => {
  for (const shutdown of [false, true]) {
    const world = createWorld();
    const old = world.begin();
    const first = await begin(world, old);
    const second = await begin(world, old);
    if (shutdown) {
      old.token?.cancel("enough");
      await world.settle();
      for (const { outcome } of [first, second]) {
        assert.equal(((await outcome) as ReloadError).code, "cancelled");
      }
    } else {
      const child = await complete(world);
      assert.equal(await first.outcome, child.pid);
      assert.equal(await second.outcome, child.pid);
    }
  }
});

test("reload() after the end is a clear error", async () => {
  const world = createWorld();
  const old = world.begin();
  await begin(world, old);
  const child = await complete(world);
  await assert.rejects(old.token!.reload(), {
    code: "cancelled",
    message: new RegExp(`pid ${child.pid} is in charge`),
  });
  child.token?.cancel();
  await assert.rejects(child.token!.reload(), { code: "cancelled", message: /shutting down/ });
});

test("ready() twice, and too late, does nothing", async () => {
  const world = createWorld();
  const old = world.begin();
  const { outcome } = await begin(world, old);
  const child = await complete(world);
  child.token?.ready();
  child.token?.cancel();
  child.token?.ready();
  old.token?.ready();
  await deliverAll(world);
  assert.equal(await outcome, child.pid);
  assert.deepEqual(old.events.filter(({ type }) => type === "reload-fail"), []);
});

test("`command` and `env` reach the start", async () => {
  const options = { command: ["/bin/new", "a b"], env: { A: "1", B: undefined } };
  const world = createWorld({ options });
  const { child } = await begin(world, world.begin());
  assert.deepEqual(child.request?.command, options.command);
  assert.deepEqual(child.request?.env, options.env);
  assert.equal(child.request?.generation, 1);
});

test("a second shutdown signal ends the process with 128 + its number, but not within half a second of the first", () => {
  const world = createWorld();
  const old = world.begin();
  world.signal(old, "SIGTERM");
  for (const milliseconds of [0, 40, 460]) {
    world.pass(milliseconds);
    world.signal(old, "SIGINT");
    assert.equal(old.exitAsked, undefined);
  }
  world.pass(1);
  world.signal(old, "SIGINT");
  assert.equal(old.exitAsked, 130);
});

test("a retired process does not take its first SIGTERM for its second", async () => {
  const world = createWorld();
  const old = world.begin();
  await begin(world, old);
  await complete(world);
  world.signal(old, "SIGTERM");
  assert.equal(old.exitAsked, undefined);
  assert.equal(old.token?.signal.reason.kind, "reload");
});

test("an outer signal cancels the token, with its reason", () => {
  const controller = new AbortController();
  const old = createWorld({ options: { signal: controller.signal } }).begin();
  controller.abort("enough");
  assert.deepEqual(old.token?.signal.reason, { kind: "shutdown", reason: "enough" });
  const late = createWorld({ options: { signal: controller.signal } }).begin();
  assert.equal(late.token?.isCancelled, true);
});

test("dispose: cancels, waits, gives the signals back", async () => {
  const world = createWorld();
  const old = world.begin();
  let finish = () => {};
  old.token?.track(new Promise<void>((resolve) => finish = resolve));
  let disposed = false;
  const end = old.token![Symbol.asyncDispose]().then(() => disposed = true);
  await world.settle();
  assert.equal(old.token?.isCancelled, true);
  assert.equal(disposed, false);
  finish();
  await world.settle();
  await world.tick();
  await end;
  world.signal(old, "SIGHUP");
  assert.equal(old.exit?.signal, "SIGHUP", "nobody handles the signal any more");
});

test("a socket that was not announced fails the reload at once, and one that was is sent", async () => {
  let announced = false;
  const handover: Handover = {
    name: "a late server",
    outgoing: ({ link }) => ({
      sendsSockets: () => announced,
      commit: () => link.send({ socket: true }, {}),
    }),
  };
  const world = createWorld({ handovers: () => [handover] });
  const old = world.begin();
  const { outcome } = await begin(world, old);
  await complete(world);
  announced = true;
  const error = await fails(world, old, outcome, "handover");
  assert.match(error.message, /a late server could not commit: no socket can be sent/);
});
