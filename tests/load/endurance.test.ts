/** Two hundred reloads in a row leave nothing behind. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { childrenOf, descriptorsOf, isAlive, memoryOf } from "../support/proc.ts";
import { startProgram } from "../support/program.ts";
import { oneOfEachKind } from "../support/runtimes.ts";
import { median } from "../support/median.ts";
import { until } from "../support/wait.ts";

const RELOADS = 200;
/**
 * The generations that are not looked at: the first ones differ, because they have no predecessor,
 * or one without one.
 */
const FIRST = 2;
/**
 * So many are looked at then, and at the end: when a process collects its garbage is its own
 * affair, what most of them hold is not.
 */
const SAMPLES = 9;

interface Seen {
  readonly descriptors: string[];
  readonly memory: number;
}

for (const runtime of oneOfEachKind) {
  test(`${runtime.name}: ${RELOADS} reloads in a row`, async (t) => {
    const program = startProgram(t, runtime);
    const pids: number[] = [(await program.report("start")).pid];
    const early: Seen[] = [];
    const late: Seen[] = [];
    for (let generation = 1; generation <= RELOADS; generation++) {
      const old = pids.at(-1) as number;
      program.signal(old);
      const { pid } = await program.report("in-charge", { generation });
      pids.push(pid);
      await until(`generation ${generation - 1} to be gone`, () => !isAlive(old));
      const samples = generation > FIRST && generation <= FIRST + SAMPLES
        ? early
        : generation > RELOADS - SAMPLES
        ? late
        : undefined;
      if (samples === undefined) continue;
      samples.push({
        descriptors: await steady(() => descriptorsOf(pid)),
        memory: await steadyMemory(pid),
      });
      assert.deepEqual(childrenOf(pid), []);
    }
    for (const { descriptors } of late) assert.deepEqual(descriptors, early[0]?.descriptors);
    const [before, after] = [early, late].map((seen) =>
      median(seen.map(({ memory }) => memory))
    ) as [number, number];
    const ratio = after / before;
    t.diagnostic(
      `memory of the last ${SAMPLES} generations: ${
        (100 * ratio).toFixed(1)
      } % of the first ones' ${(before / 2 ** 20).toFixed(1)} MiB`,
    );
    assert.ok(ratio < 1.1, `memory grew to ${ratio} times`);
    assert.deepEqual(program.pids(), pids.slice(-1));
    assert.deepEqual(program.reports.filter(({ type }) => type === "reload-fail"), []);
  });
}

/**
 * What is the same several times in a row: a process that has just started still opens and closes
 * things.
 */
async function steady<T>(look: () => T): Promise<T> {
  let last = look();
  let same = 0;
  return await until("a steady state", () => {
    const now = look();
    same = JSON.stringify(now) === JSON.stringify(last) ? same + 1 : 0;
    last = now;
    return same >= 20 ? { now } : undefined;
  }).then(({ now }) => now);
}

async function steadyMemory(pid: number): Promise<number> {
  // To a mebibyte, so that the runtimes' own timers do not make it change for ever.
  await steady(() => Math.round(memoryOf(pid) / 2 ** 20));
  return memoryOf(pid);
}
