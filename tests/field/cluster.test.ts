/** Programs of node:cluster: a reload fails at once, with the reason, and harms nothing. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { fixture, startProgram } from "../support/program.ts";
import { runtimes } from "../support/runtimes.ts";

// Deno has no node:cluster.
for (const runtime of runtimes.filter(({ kind }) => kind !== "deno")) {
  test(`${runtime.name}: neither a cluster nor a worker of it can be reloaded, and the message names the reason`, async (t) => {
    const program = startProgram(t, runtime, { script: fixture("cluster.ts") });
    const primary = await program.report("primary");
    const worker = await program.report("serving");
    const other = await program.report("serving", ({ pid }) => pid !== worker.pid);
    for (const { pid } of [primary, worker]) {
      program.signal(pid);
      const { error } = await program.report("reload-fail", { pid });
      assert.match(
        error.message,
        /a program of node:cluster cannot be reloaded.*run it without, as one process/,
      );
    }
    const answer = await fetch(`http://127.0.0.1:${worker.ports[0]}`);
    assert.match(await answer.text(), new RegExp(`^pid (${worker.pid}|${other.pid})$`));
    assert.deepEqual(program.pids().sort(), [primary.pid, worker.pid, other.pid].sort());
  });
}
