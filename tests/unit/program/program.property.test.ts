/** Random interleavings of everything that can happen to the generations of a program. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  checkWorld,
  createWorld,
  expectedTimers,
  isUnderWay,
  type SimulatedProcess,
  type World,
} from "../../support/world.ts";
import { numberOf } from "../../support/number_of.ts";

/** What the test knows of its own doing. */
interface Model {
  /** The reloads that were asked for, and of whom. */
  asked: { step: number; process: SimulatedProcess }[];
  /**
   * Did the test end a process that was in charge, or that had taken a request on? Then requests
   * may be lost with it.
   */
  interfered: boolean;
}

type Command = fc.AsyncCommand<Model, World>;

function command(
  name: string,
  n: number,
  act: (world: World, process: SimulatedProcess, model: Model) => unknown,
): Command {
  return {
    check: () => true,
    async run(model, world) {
      const alive = world.processes.filter(({ exit }) => exit === undefined);
      const process = alive[n % Math.max(alive.length, 1)];
      if (process === undefined) return;
      world.step++;
      await act(world, process, model);
      await world.settle();
      checkWorld(world);
    },
    toString: () => `${name}(${n})`,
  };
}

const shutdown = (process: SimulatedProcess) =>
  process.token?.isCancelled && process.token.signal.reason.kind === "shutdown";

function ask(world: World, process: SimulatedProcess, model: Model): void {
  // The signal ends a process that does not listen yet.
  if (process.token === undefined) model.interfered ||= process.inCharge;
  else if (!shutdown(process)) {
    model.asked.push({ step: world.step, process });
  }
}

/**
 * Chance alone hardly ever gets a reload to its end: this takes the youngest process some steps of
 * the way.
 */
function forward(steps: number): Command {
  return {
    check: () => true,
    async run(_, world) {
      for (let i = 0; i < steps; i++) {
        world.step++;
        const youngest = world.processes.findLast(({ exit }) => exit === undefined);
        if (youngest === undefined) return;
        if (youngest.token === undefined) world.boot(youngest);
        else if (!world.deliver(0)) youngest.token.ready();
        await world.settle();
        checkWorld(world);
      }
    },
    toString: () => `forward(${steps})`,
  };
}

const number = fc.nat(20);
/** What users, operators and the kernel do while nothing fails. */
const peaceful = [
  ...Array(6).fill(fc.integer({ min: 1, max: 8 }).map(forward)),
  number.map((n) =>
    command("SIGHUP", n, (world, process, model) => {
      if (process.token === undefined) return; // It would end a process that does not listen yet.
      ask(world, process, model);
      world.signal(process, "SIGHUP");
    })
  ),
  number.map((n) =>
    command("reload()", n, (world, process, model) => {
      if (process.token === undefined) return;
      if (!process.token.isCancelled) ask(world, process, model);
      process.token.reload().catch(() => {});
    })
  ),
  number.map((n) => command("boot", n, (world, process) => world.boot(process))),
  number.map((n) => command("ready", n, (_, process) => process.token?.ready())),
  number.map((n) => command("deliver", n, (world) => world.deliver(n))),
  number.map((n) => command("deliver", n, (world) => world.deliver(n))),
  number.map((n) =>
    command("drained", n, (world, process) => {
      if (process.token?.isCancelled && !isUnderWay(process)) {
        world.end(process, { code: 0, signal: null });
      }
    })
  ),
];

const interferences = [
  number.map((n) =>
    command("SIGHUP before listen()", n, (world, process, model) => {
      if (process.token !== undefined) return;
      ask(world, process, model);
      world.signal(process, "SIGHUP");
    })
  ),
  number.map((n) => command("time passes", n, (world) => world.tick())),
  number.map((n) =>
    command("crash", n, (world, process, model) => {
      model.interfered ||= process.inCharge || process.token !== undefined;
      world.end(process, { code: 1, signal: null });
    })
  ),
  number.map((n) =>
    command("SIGTERM", n, (world, process, model) => {
      model.interfered ||= process.inCharge || process.token !== undefined;
      world.signal(process, "SIGTERM");
    })
  ),
  number.map((n) => command("garbage", n, (world, process) => world.say(process, { hello: n }))),
];

/** From now on nothing fails: everyone boots, is ready, and every message arrives. */
async function letItEnd(world: World, probation: number): Promise<void> {
  for (let quiet = 0; quiet < 3;) {
    for (const process of world.processes) {
      if (process.exit !== undefined) continue;
      world.boot(process);
      process.token?.ready();
    }
    await world.settle();
    // A probation takes its time, when everything has been said.
    const moved = world.deliver(0) || (probation > 0 && await world.tick());
    quiet = moved ? 0 : quiet + 1;
    await world.settle();
    checkWorld(world);
    assert.ok(world.processes.length < 1000, "reloads never end");
  }
}

/**
 * What was asked of a process that failed before it was in charge is gone with it; its predecessor
 * tells of the failure. And a process whose successor has retired and left too has nobody to pass a
 * request on to, which it tells.
 */
function isExcused(world: World, process: SimulatedProcess): boolean {
  const pid = process.events.find((event) => event.type === "reload-end")?.pid;
  const successor = world.processes.find((other) => other.pid === pid);
  return !process.inCharge ||
    (successor !== undefined && (successor.exit !== undefined || isExcused(world, successor)));
}

/** How often each check was made: a property that hardly ever gets to its check proves nothing. */
const reached = new Map<string, number>();
function reach(check: string): void {
  reached.set(check, (reached.get(check) ?? 0) + 1);
}

/** What must hold when nothing happens any more. */
function checkEnd(world: World, model: Model): void {
  const alive = world.processes.filter(({ exit }) => exit === undefined);
  const inCharge = alive.filter(({ inCharge, token }) => inCharge && !token?.isCancelled);
  for (const process of alive) {
    assert.ok(
      process.inCharge || process.token?.isCancelled,
      `process ${process.pid} waits for ever`,
    );
    if (process.token?.isCancelled) {
      assert.ok(process.timers + process.holds <= expectedTimers(process));
    }
  }
  reach("no process waits for ever");
  assert.ok(inCharge.length <= 1, "two processes are in charge");
  if (world.processes.length > 2) reach("one process is in charge after several reloads");
  if (model.interfered) return;
  assert.equal(inCharge.length, 1, "no process is in charge");
  const started = Math.max(...world.processes.map(({ startedAt }) => startedAt));
  for (const { step, process } of model.asked) {
    if (isExcused(world, process)) continue;
    assert.ok(started >= step, "a reload that was asked for was lost");
    reach("no reload is lost");
  }
  assert.ok(
    world.processes.length - 1 <= model.asked.length,
    "there were more reloads than were asked for",
  );
  reach("no reload is begun unasked");
}

function property(
  commands: fc.Arbitrary<Command>[],
): fc.IAsyncProperty<[Iterable<Command>, number]> {
  return fc.asyncProperty(
    fc.commands(commands, { maxCommands: 80, size: "max" }),
    fc.constantFrom(0, 100),
    async (commands, probation) => {
      const model: Model = { asked: [], interfered: false };
      const world = createWorld({ options: { probation } });
      await fc.asyncModelRun(() => {
        world.begin();
        return { model, real: world };
      }, commands);
      await letItEnd(world, probation);
      checkEnd(world, model);
    },
  );
}

const numRuns = numberOf("RUNS", 1000);

test("whatever happens, the promises of a reload hold", async (t) => {
  reached.clear();
  await fc.assert(property([...peaceful, ...interferences]), { numRuns });
  report(t, {
    "no process waits for ever": 1,
    "one process is in charge after several reloads": 0.1,
  });
});

test("without interference, no reload is lost, and none is begun unasked", async (t) => {
  reached.clear();
  await fc.assert(property(peaceful), { numRuns });
  report(t, { "no reload is lost": 1, "no reload is begun unasked": 1 });
});

/** Prints how often the checks were made, and demands at least a part of the runs. */
function report(
  t: { diagnostic?(message: string): void },
  least: Readonly<Record<string, number>>,
): void {
  for (const [check, part] of Object.entries(least)) {
    const count = reached.get(check) ?? 0;
    t.diagnostic?.(`${check}: checked ${count} times in ${numRuns} runs`);
    assert.ok(count >= part * numRuns, `${check}: checked only ${count} times in ${numRuns} runs`);
  }
}
