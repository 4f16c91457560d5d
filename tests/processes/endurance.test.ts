/** Two hundred reloads in a row leave nothing behind. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { childrenOf, descriptorsOf, isAlive, memoryOf } from "../support/proc.ts";
import { startProgram } from "../support/program.ts";
import { oneOfEachKind } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";

const RELOADS = 200;

for (const runtime of oneOfEachKind) {
  test(`${runtime.name}: ${RELOADS} reloads in a row`, async (t) => {
    const program = startProgram(t, runtime);
    const pids: number[] = [(await program.report("start")).pid];
    const seen: { descriptors: string[]; memory: number }[] = [];
    for (let generation = 1; generation <= RELOADS; generation++) {
      const old = pids.at(-1) as number;
      program.signal(old);
      const { pid } = await program.report("in-charge", { generation });
      pids.push(pid);
      await until(`generation ${generation - 1} to be gone`, () => !isAlive(old));
      if (generation === 3 || generation === RELOADS) {
        const descriptors = await steady(() => descriptorsOf(pid));
        seen.push({ descriptors, memory: await steadyMemory(pid) });
        assert.deepEqual(childrenOf(pid), []);
      }
    }
    const [third, last] = seen as [typeof seen[0], typeof seen[0]];
    assert.deepEqual(last.descriptors, third.descriptors);
    const ratio = last.memory / third.memory;
    t.diagnostic(
      `memory of the last generation: ${(100 * ratio).toFixed(1)} % of the third's ${(third.memory / 2 ** 20).toFixed(1)} MiB`,
    );
    assert.ok(ratio < 1.1, `memory grew to ${ratio} times`);
    assert.deepEqual(program.pids(), pids.slice(-1));
    assert.deepEqual(program.reports.filter(({ type }) => type === "reload-fail"), []);
  });
}

/** What is the same several times in a row: a process that has just started still opens and closes things. */
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
  // To a mebibyte, so that the oneOfEachKind' own timers do not make it change for ever.
  await steady(() => Math.round(memoryOf(pid) / 2 ** 20));
  return memoryOf(pid);
}
