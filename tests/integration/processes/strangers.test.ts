/** What a program starts inherits its environment, and is no part of its reloads. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { cli } from "../../support/cli.ts";
import { isAlive } from "../../support/proc.ts";
import { fixture, type Program, startProgram } from "../../support/program.ts";
import { oneOfEachKind } from "../../support/runtimes.ts";
import { until } from "../../support/wait.ts";

/** The process that `reload-self run` takes for the one in charge. */
function inCharge({ runtimeFolder }: Program): number | undefined {
  const folder = readdirSync(runtimeFolder).find((name) =>
    name.startsWith("reload-self-run-")
  ) as string;
  const path = join(runtimeFolder, folder, "0", "in-charge");
  // Not there before the library is loaded.
  return existsSync(path) ? Number(readFileSync(path, "utf8").split(" ")[0]) : undefined;
}

for (const runtime of oneOfEachKind) {
  const { executable, flags } = runtime;
  const env = { FLAGS: JSON.stringify(flags) };
  const run = [...cli(runtime), "run", "--stop-timeout", "10", "--"];

  for (const behaviour of ["preload", "listen"]) {
    test(`${runtime.name}: a child that calls listen() does not take over its parent's \`reload-self run\` (${behaviour})`, async (t) => {
      const command = [...run, executable, ...flags, fixture("family.ts")];
      const program = startProgram(t, runtime, { command, behaviour, env });
      const child = await program.report("child");
      const parent = await program.report("start");
      assert.equal(child.generation, 0);
      await until("the parent to be in charge", () => inCharge(program) === parent.pid);

      program.signal(program.process.pid as number);
      const next = await program.report("start", { generation: 1 });
      await program.report("cancelled", { pid: parent.pid });
      await until("the new process to be followed", () => inCharge(program) === next.pid);
      assert.deepEqual(program.lines, [], "the program was not started again");
      program.signal(program.process.pid as number, "SIGTERM");
      await until("the parent to end", () => program.process.exitCode !== null);
      assert.equal(program.process.exitCode, 0);
      await until("all processes to be gone", () => !program.pids().some(isAlive));
    });
  }

  test(`${runtime.name}: what a new process starts before it has loaded the library is no successor`, async (t) => {
    const program = startProgram(t, runtime, {
      script: fixture("family.ts"),
      behaviour: "none",
      env,
    });
    const first = await program.report("start");
    program.behave("preload");
    program.signal(first);
    const child = await program.report("child");
    assert.equal(child.generation, 0, "it is an ordinary first generation");
    const second = await program.report("start", { generation: 1 });
    const { reason } = await program.report("cancelled", { pid: first.pid });
    assert.equal(reason.pid, second.pid);
  });

  test(`${runtime.name}: a program below a wrapper is followed by \`reload-self run\``, async (t) => {
    const wrapper = ["/bin/sh", "-c", '"$@"; exit $?', "sh"];
    const program = startProgram(t, runtime, {
      command: [...run, ...wrapper, executable, ...flags, fixture("program.ts")],
    });
    const first = await program.report("start");
    await until("it to be in charge", () => inCharge(program) === first.pid);
    program.signal(program.process.pid as number);
    const second = await program.report("in-charge", { generation: 1 });
    await until("the first to be gone", () => !isAlive(first.pid));
    await until("the second to be followed", () => inCharge(program) === second.pid);
    program.signal(program.process.pid as number);
    await program.report("in-charge", { generation: 2 });
    await until("the second to be gone", () => !isAlive(second.pid));
    assert.deepEqual(program.lines, [], "the program was not started again");
    program.signal(program.process.pid as number, "SIGTERM");
    await until("the parent to end", () => program.process.exitCode !== null);
    assert.equal(program.process.exitCode, 0);
    assert.deepEqual(program.pids().filter(isAlive), []);
  });
}
