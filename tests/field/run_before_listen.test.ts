/** `reload-self run -- X`, and a shutdown before X has called listen(), or where it never does. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { TestScope } from "../support/clean_up.ts";
import { cli } from "../support/cli.ts";
import { childrenOf, isAlive } from "../support/proc.ts";
import { type Program, startProgram, temporaryFolder } from "../support/program.ts";
import { oneOfEachKind, type Runtime } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";

/** It cleans up when it is told to, and says so; the library is not loaded yet. */
const CLEANS_UP = `process.on("SIGTERM", () => {
  console.log(JSON.stringify({ type: "told", pid: process.pid, generation: 0 }));
  setTimeout(() => {
    console.log(JSON.stringify({ type: "cleaned up", pid: process.pid, generation: 0 }));
    process.exit(7);
  }, 300);
});
process.on("SIGINT", () => process.exit(8));
setInterval(() => {}, 1000);
console.log(JSON.stringify({ type: "running", pid: process.pid, generation: 0 }));`;

/** It does nothing about signals. */
const ORDINARY = `setInterval(() => {}, 1000);
console.log(JSON.stringify({ type: "running", pid: process.pid, generation: 0 }));`;

function start(
  t: TestScope,
  parent: Runtime,
  runtime: Runtime,
  code: string,
  wrap: string[] = [],
  args: string[] = [],
): Program {
  const script = join(temporaryFolder(t), "program.mjs");
  writeFileSync(script, `import process from "node:process";\n${code}`);
  const command = [
    ...cli(parent),
    "run",
    ...args,
    "--",
    ...wrap,
    runtime.executable,
    ...runtime.flags,
    script,
  ];
  return startProgram(t, runtime, { command });
}

async function exitCode({ process: child }: Program): Promise<number | null> {
  await until("the parent to end", () => child.exitCode !== null || child.signalCode !== null);
  return child.exitCode;
}

for (const parent of oneOfEachKind) {
  for (const runtime of oneOfEachKind) {
    test(`run, ${parent.name} for ${runtime.name}: before listen(), SIGTERM reaches the program, and is waited for`, async (t) => {
      const program = start(t, parent, runtime, CLEANS_UP);
      const { pid } = await program.report("running");
      program.signal(program.process.pid as number, "SIGTERM");
      await program.report("told");
      assert.equal(await exitCode(program), 7);
      assert.ok(
        program.reports.some(({ type }) => type === "cleaned up"),
        "not before it has cleaned up",
      );
      assert.equal(isAlive(pid), false);
      assert.deepEqual(program.lines, []);
    });
  }

  const [runtime] = oneOfEachKind as [Runtime];
  test(`run, ${parent.name}: before listen(), a program that a signal ends: the code is that of a shell`, async (t) => {
    const program = start(t, parent, runtime, ORDINARY);
    const { pid } = await program.report("running");
    program.signal(program.process.pid as number, "SIGTERM");
    assert.equal(await exitCode(program), 143);
    assert.equal(isAlive(pid), false);
  });

  test(`run, ${parent.name}: before listen(), SIGINT is no SIGTERM`, async (t) => {
    const program = start(t, parent, runtime, CLEANS_UP);
    await program.report("running");
    program.signal(program.process.pid as number, "SIGINT");
    assert.equal(await exitCode(program), 8);
  });

  test(`run, ${parent.name}: before listen(), below another program`, async (t) => {
    const program = start(t, parent, runtime, CLEANS_UP, [
      "/bin/sh",
      "-c",
      `trap : TERM; "$0" "$@" & wait; wait; exit 9`,
    ]);
    const { pid } = await program.report("running");
    program.signal(program.process.pid as number, "SIGTERM");
    assert.equal(await exitCode(program), 9);
    assert.ok(program.reports.some(({ type }) => type === "cleaned up"));
    assert.equal(isAlive(pid), false);
  });

  test(`run, ${parent.name}: before listen(), what ignores the signal is killed, and nothing is left`, async (t) => {
    const program = start(t, parent, runtime, `process.on("SIGTERM", () => {});${ORDINARY}`, [], [
      "--stop-timeout",
      "0.3",
    ]);
    const { pid } = await program.report("running");
    program.signal(program.process.pid as number, "SIGTERM");
    assert.equal(await exitCode(program), 137);
    await until("it to be gone", () => !isAlive(pid));
  });

  test(`run, ${parent.name}: a shutdown in the very moment of the start leaves nothing, and waits for no timeout`, async (t) => {
    for (let i = 0; i < 5; i++) {
      const program = start(t, parent, runtime, ORDINARY);
      await until(
        "the guard to be started",
        () => childrenOf(program.process.pid as number).length > 0,
      );
      program.signal(program.process.pid as number, "SIGTERM");
      assert.equal(await exitCode(program), 143);
      assert.deepEqual(program.lines.filter((line) => line.includes("has not ended within")), []);
      await until("all to be gone", () => program.pids().length === 0);
    }
  });
}
