/** State from one generation to the next. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { fixture, startProgram } from "../../support/program.ts";
import { runtimes } from "../../support/runtimes.ts";
import { isAlive } from "../../support/proc.ts";
import { until } from "../../support/wait.ts";

for (const runtime of runtimes) {
  const start = (t: Parameters<typeof startProgram>[0], size: number, mode = "ok") =>
    startProgram(t, runtime, { script: fixture("state.ts"), args: [String(size), mode] });

  test(`${runtime.name}: the new process has the state when it is in charge, as it was at the last moment`, async (t) => {
    const program = start(t, 10);
    const first = await program.report("state");
    assert.equal(first.state, undefined, "nothing to inherit");
    program.signal(first);
    const second = await program.report("state", { generation: 1 });
    assert.deepEqual(second.state, { from: first.pid, wasReady: true, text: 10, sum: 10 * 0x20ac });
    program.signal(second);
    const third = await program.report("state", { generation: 2 });
    assert.equal(third.state.from, second.pid);
  });

  test(`${runtime.name}: 64 MiB are handed over, and more are refused`, async (t) => {
    // Characters of three bytes; the rest of the JSON is small.
    const largest = Math.floor((64 * 2 ** 20 - 200) / 3);
    const program = start(t, largest);
    const first = await program.report("state");
    program.signal(first);
    const second = await program.report("state", { generation: 1 });
    assert.equal(second.state.text, largest);
    assert.equal(second.state.sum, largest * 0x20ac);

    const other = start(t, largest + 200);
    const old = await other.report("state");
    other.signal(old);
    const { error } = await other.report("reload-fail");
    assert.match(error.message, /the state could not commit: it has \d+ bytes as JSON/);
    assert.ok(isAlive(old.pid));
  });

  test(`${runtime.name}: a state that never comes is named`, async (t) => {
    const program = start(t, 1, "hang");
    const first = await program.report("state");
    program.signal(first);
    const { error } = await program.report("reload-fail");
    assert.equal(error.code, "timeout");
    assert.match(error.message, /saveState\(\) of this process did not resolve/);
    assert.ok(isAlive(first.pid));
  });

  for (
    const [mode, message] of [["throw", /no state today/], ["cycle", /[Cc]ircular|cyclic/]] as const
  ) {
    test(`${runtime.name}: state that cannot be made (${mode}) fails the reload, and nothing else`, async (t) => {
      const program = start(t, 1, mode);
      const first = await program.report("state");
      program.signal(first);
      const { error } = await program.report("reload-fail");
      assert.equal(error.code, "handover");
      assert.match(error.message, message);
      const { pid } = await program.report("successor-start");
      await until("the new process to be gone", () => !isAlive(pid));
      assert.ok(isAlive(first.pid));
    });
  }
}
