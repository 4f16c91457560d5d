/** The channel between two processes is invisible to the program. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { isAlive } from "../support/proc.ts";
import { fixture, startProgram } from "../support/program.ts";
import { runtimes } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";

for (const runtime of runtimes) {
  for (const server of ["http", "none"]) {
    for (const mode of ["early", "late"]) {
      test(`${runtime.name}, server: ${server}: a program that listens to a parent, ${mode}`, async (t) => {
        const program = startProgram(t, runtime, {
          script: fixture("stranger.ts"),
          env: { MODE: mode, SERVER: server },
        });
        const first = await program.report("start", { generation: 0 });
        let old = first;
        for (let generation = 1; generation <= 2; generation++) {
          program.signal(old);
          const next = await program.report("start", { generation });
          await program.report("left", { pid: old.pid });
          await until("the old process to be gone", () => !isAlive(old.pid));
          assert.deepEqual(next.seen, first.seen, "it sees what the first generation sees");
          old = next;
        }
        // The channel is gone, and nobody has heard of it.
        program.signal(old);
        const last = await program.report("start", { generation: 3 });
        await program.report("left", { pid: old.pid });
        assert.ok(isAlive(last.pid));
        const messages = program.reports.filter(({ type }) => type === "message");
        assert.ok(messages.every(({ message }) => message === "its own"), JSON.stringify(messages));
        assert.equal(
          messages.filter(({ pid }) => pid === old.pid).length,
          2,
          "what it emits itself reaches it",
        );
        assert.deepEqual(program.reports.filter(({ type }) => type === "disconnect"), []);
        program.signal(last, "SIGTERM");
        await until("all processes to be gone", () => program.pids().length === 0);
      });
    }
  }
}
