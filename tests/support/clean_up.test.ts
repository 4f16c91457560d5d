import assert from "node:assert/strict";
import { test } from "node:test";
import { cleanUp } from "./clean_up.ts";

/** Does what a test does, and then what is done behind it. */
async function endOf(
  work: (end: (name: string, fails?: boolean) => void) => void,
): Promise<{ done: string[]; error: unknown }> {
  const done: string[] = [];
  const ends: (() => unknown)[] = [];
  const scope = { after: (end: () => unknown) => void ends.push(end) };
  work((name, fails = false) =>
    cleanUp(scope, async () => {
      await Promise.resolve();
      done.push(name);
      if (fails) throw new Error(`${name} failed`);
    })
  );
  assert.equal(
    ends.length,
    1,
    "one step of the test's own: the next ones would not be called when it fails",
  );
  try {
    await ends[0]?.();
    return { done, error: undefined };
  } catch (error) {
    return { done, error };
  }
}

test("what was begun last is ended first", async () => {
  const { done, error } = await endOf((end) =>
    ["folder", "program", "load"].forEach((name) => end(name))
  );
  assert.deepEqual(done, ["load", "program", "folder"]);
  assert.equal(error, undefined);
});

test("what fails keeps nothing else from being ended, and is told", async () => {
  const { done, error } = await endOf((end) =>
    ["folder", "program", "load"].forEach((name) => end(name, name !== "folder"))
  );
  assert.deepEqual(done, ["load", "program", "folder"]);
  assert.match(String(error), /load failed\n.*program failed/);
});
