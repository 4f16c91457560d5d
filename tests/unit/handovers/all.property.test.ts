/** All handovers together, on a simulated machine, with failures at random moments. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { createDatagramSocket } from "../../support/datagrams.ts";
import { createMachine, createServer, type Machine } from "../../support/machine.ts";
import { createWorld, type SimulatedProcess, type World } from "../../support/world.ts";
import { numberOf } from "../../support/number_of.ts";

const PORT = 8000;
const PATH = "/run/app.sock";
const PID_FILE = "/run/app.pid";

/** What the application of each process knows. */
interface App {
  /** The numbers of all generations that handed their state over, and of this one. */
  history: number[];
}

interface Scene {
  readonly world: World;
  readonly machine: Machine;
  readonly apps: Map<SimulatedProcess, App>;
}

function createScene(handsOver = true): Scene {
  const apps = new Map<SimulatedProcess, App>();
  const isAlive = (pid: number) =>
    world.processes.some((process) => process.pid === pid && process.exit === undefined);
  const machine = createMachine(isAlive, { NOTIFY_SOCKET: "/run/systemd/notify" });
  const world: World = createWorld({
    options: {
      ready: "auto",
      probation: 100,
      idleGrace: 100,
      pidFile: PID_FILE,
      ...(handsOver && { saveState: () => current }),
    },
    machine: machine.adapter,
    onEnd: (process, { code }) => machine.end(process, code === 0),
    onBoot: (process) => void boot(process).catch((error) => world.violations.push(error)),
  });
  /** The state that the process which hands over has. */
  let current: number[] = [];

  async function boot({ pid, generation, token }: SimulatedProcess): Promise<void> {
    const process = world.processes.find((process) => process.pid === pid) as SimulatedProcess;
    const app: App = { history: [] };
    apps.set(process, app);
    const listening = token?.bind(createServer(), { port: PORT });
    const receiving = token?.bind(createDatagramSocket(), { port: PORT });
    const made = await token?.path(PATH);
    if (process.exit !== undefined) return;
    machine.serveAt(made as string, pid);
    await listening;
    await receiving;
    const inherited = await token?.inheritedState as number[] | undefined;
    current = app.history = [...inherited ?? [], generation];
  }
  return { world, machine, apps };
}

/** Takes some steps: everything that can go on goes on, and time passes when nothing else does. */
async function advance({ world }: Scene, steps: number): Promise<void> {
  for (let i = 0; i < steps; i++) {
    await world.settle();
    const starting = world.processes.find(({ token, exit }) =>
      token === undefined && exit === undefined
    );
    if (starting !== undefined) world.boot(starting);
    else if (!world.deliver(0)) await world.tick();
    await world.settle();
  }
}

/**
 * The sockets never have nobody: while any process lives that has listened, the kernel refuses
 * nothing.
 */
function checkSocket({ machine }: Scene): void {
  const { accepting, retained } = machine.listening(PORT);
  assert.ok(accepting.length + retained.length > 0, "the port is refused");
  assert.ok(machine.datagramsAt(PORT).holders.length > 0, "datagrams are refused");
}

/** What must hold when a reload is over, whatever came of it. */
function checkEnd({ world, machine, apps }: Scene): SimulatedProcess {
  if (world.violations.length > 0) throw world.violations[0];
  const [inCharge, ...more] = world.processes.filter(({ exit, token, inCharge }) =>
    exit === undefined && inCharge && !token?.isCancelled
  );
  assert.ok(inCharge !== undefined && more.length === 0, "one process is in charge");
  const { pid } = inCharge;
  const { accepting, retained } = machine.listening(PORT);
  assert.deepEqual([accepting, retained], [[pid], []], "it alone listens");
  assert.deepEqual(
    machine.datagramsAt(PORT),
    { holders: [pid], readers: [pid] },
    "it alone receives datagrams",
  );
  assert.equal(machine.files.get(PATH)?.server, pid, "its socket is at the path");
  assert.equal(machine.files.get(PID_FILE)?.text, `${pid}\n`);
  const status = JSON.parse(machine.files.get(`/run/user/${pid}.json`)?.text ?? "");
  assert.deepEqual([status.pid, status.state], [pid, "serving"]);
  const variables = machine.notified.flatMap(({ variables }) => variables);
  assert.equal(
    variables.findLast((variable) => variable.startsWith("STATUS="))?.match(/process (\d+)/)?.[1],
    String(pid),
  );
  const main = variables.findLast((variable) => variable.startsWith("MAINPID="));
  assert.ok(
    main === undefined ? inCharge.parent === undefined : main === `MAINPID=${pid}`,
    "systemd knows the main process",
  );
  const history = apps.get(inCharge)?.history ?? [];
  assert.equal(history.at(-1), inCharge.generation);
  const names = [...machine.files.keys()].filter((name) => name.startsWith(`${PATH}.`));
  assert.deepEqual(
    names.filter((name) => name !== `${PATH}.${pid}`),
    [],
    "no temporary path is left behind",
  );
  return inCharge;
}

async function settle(scene: Scene): Promise<void> {
  await advance(scene, 60);
  for (const process of scene.world.processes) {
    if (process.exit === undefined && process.token?.isCancelled) {
      scene.world.end(process, { code: 0, signal: null });
    }
  }
  await advance(scene, 10);
}

test("three reloads hand everything over", async () => {
  const scene = createScene();
  scene.world.begin();
  await settle(scene);
  for (let i = 1; i <= 3; i++) {
    checkEnd(scene).token?.reload();
    await settle(scene);
    const inCharge = checkEnd(scene);
    assert.equal(inCharge.generation, i);
    assert.deepEqual(scene.apps.get(inCharge)?.history, [...Array(i + 1).keys()]);
  }
  assert.deepEqual(
    [...scene.machine.files.keys()].filter((name) => name.endsWith(".json")).length,
    1,
  );
});

test("of a datagram socket one process reads at a time, with a state and without one", async () => {
  for (const handsOver of [true, false]) {
    const scene = createScene(handsOver);
    const first = scene.world.begin();
    await settle(scene);
    first.token?.reload();
    for (let step = 0; step < 60 && !first.token?.isCancelled; step++) {
      await advance(scene, 1);
      const { holders, readers } = scene.machine.datagramsAt(PORT);
      const next = scene.world.processes.at(-1) as SimulatedProcess;
      // From the moment that the new process is known to be in charge only that reads, for all of
      // its probation.
      const isKnown = first.events.some(({ type }) => type === "successor-in-charge");
      if (isKnown && !first.token?.isCancelled) {
        assert.deepEqual([holders.length, readers], [2, [next.pid]]);
      } else assert.ok(readers.length > 0 || handsOver);
    }
    assert.ok(first.events.some(({ type }) => type === "successor-in-charge"));
  }
});

test("a new process that dies at any moment takes nothing with it, and no connection is refused on the way", async () => {
  let inCharge = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(fc.nat(45), { minLength: 1, maxLength: 4 }), async (moments) => {
      const scene = createScene();
      scene.world.begin();
      await settle(scene);
      for (const moment of moments) {
        const old = checkEnd(scene);
        old.token?.reload().catch(() => {});
        for (let i = 0; i < moment; i++) {
          await advance(scene, 1);
          checkSocket(scene);
        }
        const child = scene.world.processes.find(({ parent, exit }) =>
          parent === old && exit === undefined
        );
        const isOver = old.token?.isCancelled === true;
        if (child !== undefined && !isOver) {
          if (child.inCharge) inCharge++;
          scene.world.end(child, { code: null, signal: "SIGKILL" });
        }
        for (let i = 0; i < 30; i++) {
          await advance(scene, 1);
          checkSocket(scene);
        }
        await settle(scene);
        assert.equal(checkEnd(scene) === old, child !== undefined && !isOver);
      }
    }),
    { numRuns: numberOf("RUNS", 300) / 3 },
  );
  assert.ok(inCharge > 0, "some died on probation");
});

test("an old process that dies at any moment leaves everything to the new one", async () => {
  let takenOver = 0;
  await fc.assert(
    fc.asyncProperty(fc.nat(45), async (moment) => {
      const scene = createScene();
      scene.world.begin();
      await settle(scene);
      const old = checkEnd(scene);
      old.token?.reload().catch(() => {});
      await advance(scene, moment);
      const child = scene.world.processes.find(({ parent, exit }) =>
        parent === old && exit === undefined
      );
      if (child === undefined) return;
      scene.world.end(old, { code: null, signal: "SIGKILL" });
      await settle(scene);
      assert.equal(checkEnd(scene), child);
      takenOver++;
    }),
    { numRuns: numberOf("RUNS", 300) / 3 },
  );
  assert.ok(takenOver > 0);
});
