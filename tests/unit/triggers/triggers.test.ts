import assert from "node:assert/strict";
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { createAttempts } from "../../../src/triggers/attempts.ts";
import { createSchedule } from "../../../src/triggers/schedule.ts";
import { findChange, takeSnapshot } from "../../../src/triggers/snapshot.ts";
import { checkSize, checkTime, parseTime, showTime } from "../../../src/core/units.ts";
import { temporaryFolder } from "../../support/program.ts";

test("times and sizes as people write them", () => {
  for (
    const [text, value] of [["1ms", 1], ["1.5s", 1_500], ["5m", 300_000], ["24h", 86_400_000], [
      "7d",
      604_800_000,
    ], [250, 250]]
  ) {
    assert.equal(parseTime(text), value);
  }
  for (const wrong of ["", "5", "s", "-1s", "0s", "1 day", 0, -1, NaN, null, undefined, {}]) {
    assert.throws(() => checkTime("every", wrong), {
      name: "TypeError",
      message: /every must be milliseconds, or a time such as/,
    });
  }
  const sizes: [unknown, number][] = [["500M", 500 * 2 ** 20], ["2G", 2 ** 31], ["1.5k", 1536], [
    "1 GiB",
    2 ** 30,
  ], [
    "10MB",
    10 * 2 ** 20,
  ], [7, 7]];
  for (const [text, bytes] of sizes) assert.equal(checkSize("memory", text), bytes);
  for (const wrong of ["", "M", "-1M", 0, "1T", "50%", null]) {
    assert.throws(() => checkSize("memory", wrong), {
      name: "TypeError",
      message: /memory must be bytes, or a size such as/,
    });
  }
  assert.deepEqual([86_400_000, 5_400_000, 90_000, 1_500, 20].map(showTime), [
    "1 d",
    "90 m",
    "90 s",
    "1.5 s",
    "20 ms",
  ]);
});

test("a time passes again and again, a pattern of cron has its next time", () => {
  const hourly = createSchedule("every", "1h");
  assert.deepEqual([hourly(), hourly()], [3_600_000, 3_600_000]);
  const soon = createSchedule("every", "* * * * * *")();
  assert.ok(soon > 0 && soon <= 1_001);
});

/** Attempts that fail as often as given, and the pauses between them. */
function attempts(failures: number) {
  const pauses: number[] = [];
  const lines: string[] = [];
  let next = () => {};
  let count = 0;
  const all = createAttempts({
    reload: () => count++ < failures ? Promise.reject(new Error("no")) : Promise.resolve(),
    isFinal: () => false,
    log: (line) => void lines.push(line),
    wait(milliseconds, callback) {
      pauses.push(milliseconds);
      next = callback;
      return () => {
        next = () => {};
      };
    },
  });
  return { all, pauses, lines, count: () => count, retry: () => next() };
}
const turn = () => new Promise((resolve) => setImmediate(resolve));

test("what fails is tried again after pauses that grow, up to ten minutes", async () => {
  const { all, pauses, count, retry } = attempts(9);
  await all.begin("a has changed");
  for (let i = 0; i < 9; i++) {
    retry();
    await turn();
  }
  assert.equal(count(), 10);
  assert.deepEqual(
    pauses,
    [5, 10, 20, 40, 80, 160, 320, 600, 600].map((seconds) => seconds * 1_000),
  );
});

test("time that passes does not shorten the pause, a change does", async () => {
  const { all, count } = attempts(1);
  await all.begin("it is time");
  await all.begin("it is time");
  assert.equal(count(), 1);
  await all.begin("a has changed", true);
  assert.equal(count(), 2);
});

test("what happens during an attempt is followed by one more", async () => {
  const { all, count } = attempts(0);
  await Promise.all([all.begin("a"), all.begin("b"), all.begin("c")]);
  assert.equal(count(), 2);
  all.stop();
  await all.begin("d");
  assert.equal(count(), 2);
});

test("an attempt that the end of the program interrupts is not said to be tried again", async () => {
  const { all, lines, pauses } = attempts(1);
  const attempt = all.begin("it is time");
  all.stop();
  await attempt;
  assert.deepEqual([lines, pauses], [["it is time: reloading"], []]);
});

test("links in a circle, and what is not there, are no obstacle", async (t) => {
  const folder = temporaryFolder(t);
  mkdirSync(join(folder, "a"));
  symlinkSync("..", join(folder, "a", "up"));
  symlinkSync("itself", join(folder, "itself"));
  mkdirSync(join(folder, "node_modules"));
  writeFileSync(join(folder, "node_modules", "x"), "");
  const before = await takeSnapshot([folder, join(folder, "later")]);
  assert.ok(![...before.files.keys()].some((path) => path.includes("node_modules")));
  assert.equal(before.files.get(join(folder, "later")), "nothing");
  assert.equal(findChange(before, await takeSnapshot([folder, join(folder, "later")])), undefined);
  writeFileSync(join(folder, "later"), "");
  assert.equal(
    findChange(before, await takeSnapshot([folder, join(folder, "later")])),
    join(folder, "later"),
  );
});
