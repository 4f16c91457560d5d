/** A new process that is in charge, and may still fail, in the simulated world. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { ReloadError } from "../../../src/core/error.ts";
import type { Handover } from "../../../src/reload/handover.ts";
import { pack } from "../../../src/protocol/reload.ts";
import { passProbation } from "../../../src/reload/probation.ts";
import {
  createWorld,
  deliverAll,
  reloadInCharge,
  type SimulatedProcess,
  type World,
} from "../../support/world.ts";

/** A reload whose new process is in charge, for 100 ms on probation. */
async function onProbation(handovers: Handover[] = []) {
  const world = createWorld({
    options: { probation: 100, idleGrace: 100 },
    handovers: () => handovers,
  });
  const reload = await reloadInCharge(world);
  await deliverAll(world);
  assert.equal(reload.old.token?.isCancelled, false);
  return reload;
}

const types = ({ events }: SimulatedProcess) => events.map(({ type }) => type);

test("a new process that lives has passed, and only then the old one leaves", async () => {
  const { world, old, child, outcome } = await onProbation();
  assert.ok(!types(old).includes("reload-end"));
  await world.tick();
  await deliverAll(world);
  assert.equal(await outcome, child.pid);
  assert.deepEqual(types(old), [
    "reload-begin",
    "successor-start",
    "successor-ready",
    "successor-in-charge",
    "reload-end",
    "cancel",
  ]);
});

test("a new process that dies on probation is taken back, with all that was done", async () => {
  const steps: string[] = [];
  const { world, old, child, outcome } = await onProbation([{
    name: "a handover",
    outgoing: () => ({
      handedOver: () => void steps.push("handed over"),
      retire: () => void steps.push("retired"),
      rollback: ({ message }) => void steps.push(message),
    }),
  }]);
  world.end(child, { code: 3, signal: null });
  await deliverAll(world);
  const error = await outcome as Error;
  assert.match(error.message, /exited with code 3 0 ms after it was in charge$/);
  assert.deepEqual(steps, ["handed over", error.message]);
  assert.equal(old.token?.isCancelled, false);
  const failed = old.events.find((event) => event.type === "reload-fail");
  assert.equal(failed?.wasInCharge, true);
  // The next one does it right.
  const next = old.token?.reload();
  await world.settle();
  const second = world.processes.at(-1) as SimulatedProcess;
  world.boot(second);
  second.token?.ready();
  await deliverAll(world);
  await world.tick();
  await deliverAll(world);
  assert.equal(await next, second.pid);
});

test("a new process that dies while the old one prepares to leave is taken back", async () => {
  const steps: string[] = [];
  const leaving = Promise.withResolvers<void>();
  const { world, old, child, outcome } = await onProbation([{
    name: "a handover",
    outgoing: () => ({
      beforeRetire() {
        steps.push("before retire");
        return leaving.promise;
      },
      retire: () => void steps.push("retired"),
      rollback: () => void steps.push("rolled back"),
    }),
  }]);
  await world.tick();
  await deliverAll(world);
  assert.deepEqual(steps, ["before retire"]);
  world.end(child, { code: null, signal: "SIGKILL" });
  await deliverAll(world);
  assert.match((await outcome as Error).message, /was ended by SIGKILL/);
  assert.deepEqual(steps, ["before retire", "rolled back"]);
  leaving.resolve();
  await world.settle();
  assert.deepEqual(steps, ["before retire", "rolled back"]);
  assert.equal(old.token?.isCancelled, false);
});

/** Lets time pass, for the process `of` alone where it is given: the other one is in a loop. */
async function pass(world: World, of: SimulatedProcess, times: number): Promise<void> {
  for (let i = 0; i < times; i++) {
    await world.settle();
    await world.tick();
    while (world.deliverTo(of));
  }
  await world.settle();
}

test("a new process that gives no sign of life on probation is killed, and the old one takes charge again", async () => {
  const { world, old, child, outcome } = await onProbation();
  await pass(world, old, 200);
  const { code, message } = await outcome as ReloadError;
  assert.equal(code, "silent");
  assert.match(message, /has not given a sign of life any more/);
  assert.deepEqual(child.exit, { code: null, signal: "SIGKILL" });
  assert.equal(old.token?.isCancelled, false);
});

test("a new process of an earlier version answers no question, and passes its probation", async () => {
  const world = createWorld({ options: { probation: 100, idleGrace: 100 }, handovers: () => [] });
  const old = world.begin();
  const outcome = old.token?.reload();
  await world.settle();
  const child = world.processes.at(-1) as SimulatedProcess;
  for (const message of [{ type: "hello", pid: child.pid }, { type: "ready" }] as const) {
    world.say(child, pack(message));
  }
  await deliverAll(world);
  world.say(child, pack({ type: "in-charge" }));
  child.inCharge = true;
  await deliverAll(world);
  await pass(world, old, 3);
  assert.equal(await outcome, child.pid);
});

test("a shutdown of the old process ends the probation, and is passed on", async () => {
  const { world, old, child, outcome } = await onProbation();
  world.signal(old, "SIGTERM");
  await deliverAll(world);
  assert.equal(await outcome, child.pid);
  for (const process of [old, child]) {
    assert.deepEqual(process.token?.signal.reason, { kind: "shutdown", signal: "SIGTERM" });
    assert.equal(process.exitAsked, undefined, "it is not taken for a second signal");
  }
});

test("a shutdown after the probation is passed on over the generations", async () => {
  const { world, old, child } = await onProbation();
  await world.tick();
  await deliverAll(world);
  assert.deepEqual(old.token?.signal.reason.kind, "reload");
  world.signal(old, "SIGTERM");
  await deliverAll(world);
  assert.deepEqual(child.token?.signal.reason, { kind: "shutdown", signal: "SIGTERM" });
  world.pass(501);
  world.signal(old, "SIGTERM");
  assert.equal(old.exitAsked, 143, "the second one is meant for it alone");
});

test("a new process that is asked to end on probation has not failed", async () => {
  const { world, old, child, outcome } = await onProbation();
  world.signal(child, "SIGTERM");
  await deliverAll(world);
  world.end(child, { code: 0, signal: null });
  await deliverAll(world);
  assert.equal(await outcome, child.pid);
  assert.equal(old.token?.signal.reason.kind, "reload");
});

test("a new process that dies when it cannot be taken back any more is reported", async () => {
  const { world, old, child } = await onProbation();
  await world.tick();
  await deliverAll(world);
  world.end(child, { code: null, signal: "SIGKILL" });
  await deliverAll(world);
  assert.deepEqual(old.events.at(-1), {
    type: "successor-exit",
    pid: child.pid,
    exitCode: null,
    exitSignal: "SIGKILL",
  });
});

test("a reload that is asked for on probation comes after it", async () => {
  const { world, old, child, outcome } = await onProbation();
  world.signal(old, "SIGHUP");
  assert.ok(types(old).includes("reload-later"));
  await world.tick();
  await deliverAll(world);
  assert.equal(await outcome, child.pid);
  assert.ok(types(child).includes("reload-begin"), "the new process does it");
});

/**
 * A clock whose timers fire in order; `stop` lets time pass without them, as for a process that is
 * stopped.
 */
function createClock() {
  let now = 0;
  let timers: { at: number; callback: () => void }[] = [];
  return {
    now: () => now,
    timer(milliseconds: number, callback: () => void) {
      const timer = { at: now + milliseconds, callback };
      timers.push(timer);
      return () => void (timers = timers.filter((other) => other !== timer));
    },
    hold: () => () => {},
    stop: (milliseconds: number) => void (now += milliseconds),
    async run(until: number) {
      for (;;) {
        await new Promise((resolve) => setImmediate(resolve));
        const [next] = timers.sort((a, b) => a.at - b.at);
        if (next === undefined || next.at > until) return void (now = Math.max(now, until));
        timers.shift();
        now = Math.max(now, next.at);
        next.callback();
      }
    },
  };
}

test("time for which the old process was stopped is no probation", async () => {
  for (const stoppedAt of [50, 250, 950, 990]) {
    const clock = createClock();
    let passedAt: number | undefined;
    const ended = new AbortController().signal;
    passProbation({ clock, time: 1_000, ask: () => Promise.resolve(), ended }).then(() =>
      passedAt = clock.now()
    );
    await clock.run(stoppedAt);
    clock.stop(5_000);
    const goesOn = clock.now();
    await clock.run(goesOn + 2_000);
    assert.ok(
      passedAt !== undefined && passedAt - goesOn >= 300,
      `stopped at ${stoppedAt}: passed ${passedAt} - ${goesOn}`,
    );
    assert.ok(passedAt - goesOn >= 900 - stoppedAt);
  }
});

test("a process that is late all the time passes nevertheless", async () => {
  const clock = createClock();
  let outcome: string | undefined;
  const late = {
    ...clock,
    timer: (milliseconds: number, callback: () => void) =>
      clock.timer(milliseconds + 800, callback),
  };
  const ended = new AbortController().signal;
  passProbation({ clock: late, time: 1_000, ask: () => Promise.resolve(), ended }).then((how) =>
    outcome = how
  );
  await clock.run(60_000);
  assert.equal(outcome, "passed");
});
