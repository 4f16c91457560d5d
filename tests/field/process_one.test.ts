/** A container ends with its process 1: what stands there, and what a program says to it. */
import assert from "node:assert/strict";
import { copyFileSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { cli } from "../support/cli.ts";
import { namespace } from "../support/container.ts";
import { commandLineOf } from "../support/proc.ts";
import { fixture, type Program, startProgram, temporaryFolder } from "../support/program.ts";
import { oneOfEachKind, type Runtime } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";

const skip = (process.platform !== "linux" || process.getuid?.() !== 0) &&
  "it takes root on Linux to make a pid namespace";
/** Starts a program, waits for it, and ends with it. */
const WAITS = `"$0" "$@"; exit $?`;

const warnings = (program: Program) =>
  program.reports.filter(({ type }) => type === "warning").map(({ message }) => message);

/** A shell under another name: all that is known of process 1 is its name and its command line. */
function shellAs(t: TestContext, name: string, original: string = "/bin/sh"): string {
  const path = join(temporaryFolder(t), name);
  copyFileSync(original, path);
  return path;
}

function start(
  t: TestContext,
  runtime: Runtime,
  processOne: readonly string[],
  below: readonly string[] = [],
): Program {
  const command = [
    ...namespace,
    ...processOne,
    ...below,
    runtime.executable,
    ...runtime.flags,
    fixture("program.ts"),
  ];
  return startProgram(t, runtime, { command });
}

for (const runtime of oneOfEachKind) {
  for (const name of ["tini", "docker-init", "dumb-init", "catatonit", "sh", "bash"]) {
    test(`${runtime.name}: below ${name} as process 1, it says that the container would end`, {
      skip,
    }, async (t) => {
      const program = start(t, runtime, [shellAs(t, name), "-c", WAITS]);
      const first = await program.report("start");
      assert.ok(first.pid > 1);
      assert.equal(warnings(program).length, 1);
      assert.match(
        warnings(program)[0],
        new RegExp(
          `^process 1 is ${name}, which ends with this process.*reload-self run -- \\.\\.\\.`,
        ),
      );

      // And it is true.
      process.kill(
        program.pids().find((pid) => commandLineOf(pid)[0] === runtime.executable) as number,
        "SIGHUP",
      );
      await program.report("in-charge", { generation: 1 });
      await until(
        "the container to end",
        () => program.process.exitCode !== null || program.process.signalCode !== null,
      );
      await until("all to be gone", () => program.pids().length === 0);
    });
  }

  for (const name of ["systemd", "init", "s6-svscan", "my-supervisor"]) {
    test(
      `${runtime.name}: below ${name} as process 1, there is no warning`,
      { skip },
      async (t) => {
        const program = start(t, runtime, [shellAs(t, name), "-c", WAITS]);
        await program.report("start");
        assert.deepEqual(warnings(program), []);
      },
    );
  }

  test(`${runtime.name}: what the warning asks for fixes it`, { skip }, async (t) => {
    const program = start(t, runtime, [shellAs(t, "tini"), "-c", WAITS], [
      ...cli(runtime),
      "run",
      "--",
    ]);
    await program.report("start");
    assert.deepEqual(warnings(program), []);
  });
}

test(
  "a shell that a person types into does not end with what it has started",
  { skip },
  async (t) => {
    const [runtime] = oneOfEachKind as [Runtime];
    const program = startProgram(t, runtime, {
      command: [...namespace, shellAs(t, "bash")],
      stdin: "pipe",
    });
    program.process.stdin?.write(
      `${runtime.executable} ${runtime.flags.join(" ")} ${fixture("program.ts")}\n`,
    );
    await program.report("start");
    assert.deepEqual(warnings(program), []);
  },
);
