/** The check of a new version, in the simulated world. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { ReloadError } from "../../../src/core/error.ts";
import type { ListenOptions } from "../../../src/core/options.ts";
import type { Handover } from "../../../src/reload/handover.ts";
import { pack } from "../../../src/protocol/reload.ts";
import {
  checkWorld,
  createWorld,
  deliverMessages,
  reloadInCharge,
  type SimulatedProcess,
  type World,
} from "../../support/world.ts";

/** A reload whose new process is in charge, and checks itself. */
async function checked(
  options: ListenOptions,
  handovers: (hasEnded: () => boolean) => Handover[] = () => [],
) {
  const world: World = createWorld({
    options: { probation: 100, idleGrace: 100, ...options },
    handovers: () => handovers(() => world.processes.at(-1)?.exit !== undefined),
  });
  return await reloadInCharge(world);
}

/** Lets time pass until something has come of the reload. */
async function until(world: World, outcome: Promise<unknown>): Promise<unknown> {
  let result: { value: unknown } | undefined;
  outcome.then((value) => result = { value });
  for (let i = 0; i < 1_000 && result === undefined; i++) {
    await world.tick();
    await deliverMessages(world);
  }
  assert.ok(result !== undefined, "nothing comes of it");
  checkWorld(world);
  return result.value;
}

const failing: [what: string, check: NonNullable<ListenOptions["check"]>, why: RegExp][] = [
  ["throws", () => {
    throw new Error("no database");
  }, /: no database$/],
  ["rejects", () => Promise.reject(new Error("no database")), /: no database$/],
  ["returns false", () => Promise.resolve(false), /: it returned false$/],
  ["answers 404", () => new Response(null, { status: 404 }), /: it answered 404$/],
  [
    "does not end",
    () => new Promise(() => {}),
    /: it has not ended within 5000 ms \(checkTimeout\)$/,
  ],
];
for (const [what, check, why] of failing) {
  test(`a version whose check ${what} is taken back, and told that it is`, async () => {
    const steps: string[] = [];
    const { world, old, child, outcome } = await checked({ check }, (hasEnded) => [{
      name: "a handover",
      outgoing: () => ({
        handedOver: () => void steps.push("handed over"),
        onProbation: () => void steps.push("on probation"),
        retire: () => void steps.push("retired"),
        rollback: () => void steps.push(`rolled back${hasEnded() ? ", too late" : ""}`),
        ended: () => void steps.push(`ended${hasEnded() ? "" : ", too early"}`),
      }),
      incoming: () => ({ revoke: () => void steps.push("revoked") }),
    }]);
    const error = await until(world, outcome) as ReloadError;
    assert.equal(error.code, "check");
    assert.match(error.message, /^the new process \(pid \d+\) did not pass its check: /);
    assert.match(error.message, why);
    assert.match((error.cause as Error).message, new RegExp(why.source.slice(2)));
    assert.deepEqual(steps, ["handed over", "rolled back", "revoked", "ended"]);
    assert.deepEqual(child.token?.signal.reason, { kind: "reload", pid: old.pid, generation: 0 });
    assert.equal(old.token?.isCancelled, false);
    assert.equal(old.events.find((event) => event.type === "reload-fail")?.wasInCharge, true);
  });
}

test("a version that passes stays; nothing is done for good before, however long it takes", async () => {
  const check = Promise.withResolvers<Response>();
  const steps: string[] = [];
  const { world, old, child, outcome } = await checked({
    check: () => check.promise,
    checkTimeout: 100_000,
  }, () => [{
    name: "a handover",
    outgoing: () => ({ onProbation: () => void steps.push("on probation") }),
  }]);
  for (let i = 0; i < 20; i++) {
    await world.tick();
    await deliverMessages(world);
  }
  assert.deepEqual(steps, []);
  check.resolve(new Response(null, { status: 302 }));
  assert.equal(await until(world, outcome), child.pid);
  assert.deepEqual(steps, ["on probation"]);
  assert.equal(old.token?.signal.reason.kind, "reload");
});

test("the signal fires when the time is over", async () => {
  let seen: AbortSignal | undefined;
  const { world, outcome } = await checked({
    check: (signal) => (seen = signal, new Promise(() => {})),
    checkTimeout: 700,
  });
  assert.equal(seen?.aborted, false);
  assert.match((await until(world, outcome) as Error).message, /within 700 ms/);
  assert.equal(seen?.aborted, true);
});

test("a process that hangs during its check is killed", async () => {
  const { world, old, child, outcome } = await checked({
    check: () => new Promise(() => {}),
    checkTimeout: 1_000_000,
  });
  for (let i = 0; i < 200; i++) {
    await world.settle();
    await world.tick();
    while (world.deliverTo(old));
  }
  assert.equal((await outcome as ReloadError).code, "silent");
  assert.deepEqual(child.exit, { code: null, signal: "SIGKILL" });
});

for (const who of ["old", "new"] as const) {
  test(`a shutdown of the ${who} process ends the check: what comes of it does not matter`, async () => {
    const check = Promise.withResolvers<void>();
    const processes = await checked({ check: () => check.promise });
    const { world, old, child, outcome } = processes;
    world.signal(who === "old" ? old : child, "SIGTERM");
    await deliverMessages(world);
    check.reject(new Error("it is shutting down"));
    assert.equal(await until(world, outcome), child.pid);
  });
}

test("a new process that was told that it is taken back does not carry on when the old one dies", async () => {
  const { world, old, child } = await checked({ check: () => false });
  for (let i = 0; i < 10 && child.token?.isCancelled === false; i++) await world.tick();
  await deliverMessages(world);
  assert.equal(child.token?.signal.reason.kind, "reload");
  world.end(old, { code: null, signal: "SIGKILL" });
  await deliverMessages(world);
  assert.deepEqual(child.events.filter(({ type }) => type === "in-charge").length, 1);
});

test("a predecessor of an earlier version does not ask for the check: that is said, once", async () => {
  const world = createWorld({ options: { check: () => false }, handovers: () => [] });
  world.begin().token?.reload().catch(() => {});
  await world.settle();
  const child = world.processes.at(-1) as SimulatedProcess;
  world.boot(child);
  for (
    const message of [{ type: "offered" }, { type: "commit" }, {
      type: "over",
      reload: false,
    }] as const
  ) {
    world.tell(child, pack(message));
  }
  do await world.settle(); while (world.deliverTo(child));
  const warnings = child.events.filter((event) => event.type === "warning");
  assert.equal(warnings.length, 1);
  assert.match(
    warnings[0]?.message as string,
    /the check was not made: .* the next reload makes it/,
  );
});
