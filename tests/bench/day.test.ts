/** What a day counts as lost, and that it notices what it is there to notice. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createChronicle } from "../../tools/bench/day/chronicle.ts";
import { createRandom } from "../../tools/bench/day/random.ts";
import { liveDay } from "../../tools/bench/day/run.ts";
import { withRows } from "../../tools/bench/day/table.ts";
import { type Failure, type History, isExcused } from "../../tools/bench/day/verdict.ts";
import { cleanUp } from "../support/clean_up.ts";
import { isAlive } from "../support/proc.ts";
import type { Program } from "../support/program.ts";
import { oneOfEachKind } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";

/**
 * Process 1 was in charge until 10 s, process 2 from then on, when it was killed at 20 s; 3
 * followed at 21 s.
 */
const history: History = {
  served: new Map([[1, { from: 0, until: 10_000 }], [2, { from: 10_000, until: Infinity }], [3, {
    from: 21_000,
    until: Infinity,
  }]]),
  deaths: [{ pid: 2, from: 20_000, to: 20_000 }],
  gaps: [{ from: 20_000, to: 21_200 }],
  shortages: [{ from: 30_000, to: 31_000 }],
};
const failure = (begun: number, noticed: number, pid?: number, at = begun): Failure => ({
  client: "a client",
  error: "ECONNRESET",
  begun,
  noticed,
  last: pid === undefined ? undefined : { pid, at },
});

const cases: [what: string, failure: Failure, excused: boolean][] = [
  ["a connection of the killed process", failure(19_000, 20_010, 2), true],
  [
    "one that was the predecessor's, and has moved to the killed process",
    failure(9_000, 20_010, 1),
    true,
  ],
  ["one that was cut before the process was killed", failure(15_000, 15_010, 2), false],
  ["one whose process has answered after that", failure(22_000, 22_010, 3), false],
  [
    "one that a busy client has read an answer from a moment after the death",
    failure(20_100, 20_500, 2, 20_400),
    true,
  ],
  ["a connection that is refused until the next process listens", failure(20_500, 20_510), true],
  ["one that is refused later", failure(25_000, 25_010), false],
  ["a new connection while no descriptors are left", failure(30_500, 30_600), true],
  [
    "a connection that is there while no descriptors are left",
    failure(30_500, 30_600, 3, 30_400),
    false,
  ],
];
for (const [what, one, excused] of cases) {
  test(`${what} is ${excused ? "not " : ""}lost`, () =>
    assert.equal(isExcused(one, history), excused));
}

test("a new process that was never in charge had no connection", () => {
  const deaths = [{ pid: 9, from: 15_000, to: 15_000 }];
  assert.equal(isExcused(failure(14_900, 15_010, 2), { ...history, deaths }), false);
});

test("a process with the pid of an earlier one is another one: its death leaves a gap", async (t) => {
  const reports: object[] = [];
  const chronicle = createChronicle();
  cleanUp(t, () => chronicle.stop());
  chronicle.follow({ reports } as unknown as Program);
  reports.push({ type: "in-charge", pid: 1 }, { type: "cancel", pid: 1 });
  await until("both to be read", () => chronicle.served.get(1)?.until !== Infinity);
  reports.push({ type: "in-charge", pid: 1 });
  await until("it to be in charge", () => chronicle.served.get(1)?.until === Infinity);
  for (const gaps of [1, 2]) {
    chronicle.signal(1, "SIGKILL");
    assert.equal(chronicle.gaps.length, gaps);
    reports.push({ type: "serving", pid: 1, generation: 0 });
    await until("the next one to serve", () => chronicle.gaps.every(({ to }) => to !== Infinity));
  }
});

test("the table keeps the rows of other runtimes", () => {
  const empty = "before\n\n<!-- npm run bench -- day -->\n\n<!-- end -->\nafter\n";
  const [deno, bun] = [["deno", "1", "2"], ["bun", "3", "4"]];
  const first = withRows(empty, ["", "a", "b"], [deno]);
  assert.match(
    first,
    /^before\n\n<!--.*-->\n\n\| {2}\| a \| b \|\n.*\n\| deno \| 1 \| 2 \|\n\n<!-- end -->\nafter\n$/,
  );
  const second = withRows(withRows(first, ["", "a", "b"], [bun]), ["", "a", "b"], [[
    "deno",
    "5",
    "6",
  ]]);
  assert.match(second, /\n\| deno \| 5 \| 6 \|\n\| bun \| 3 \| 4 \|\n\n<!-- end/);
  assert.throws(() => withRows("nothing", [], []), /no place/);
});

test("a seed repeats a schedule, and another one has another", () => {
  const numbers = (seed: number) => {
    const random = createRandom(seed);
    return Array.from({ length: 20 }, () => random.between(1, 6));
  };
  assert.deepEqual(numbers(1), numbers(1));
  assert.notDeepEqual(numbers(1), numbers(2));
  assert.deepEqual([...new Set(Array.from({ length: 9 }, (_, i) => numbers(i)).flat())].sort(), [
    1,
    2,
    3,
    4,
    5,
    6,
  ]);
});

for (const runtime of oneOfEachKind.slice(-1)) {
  test(`${runtime.name}: a process that is killed behind the back of the day loses what it had`, async (t) => {
    const unseen = {
      name: "killed unseen",
      weight: 1,
      async happen({ first }: { first: { pid: number } }) {
        process.kill(first.pid, "SIGKILL");
        await until("it to be gone", () => !isAlive(first.pid));
      },
    };
    const { lost, doubled } = await liveDay(
      t,
      runtime,
      { minutes: 0.05, seed: 1, only: [unseen] },
      () => {},
    );
    assert.ok(lost.length > 0, "connections were cut");
    assert.match(lost.join("\n"), /raw TCP|WebSockets/);
    assert.deepEqual(doubled, []);
  });
}
