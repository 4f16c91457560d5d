/**
 * Signals as they come in the field: a Ctrl-C below concurrently or nodemon comes two or three
 * times within 40 ms.
 */
import assert from "node:assert/strict";
import { setTimeout as delay } from "node:timers/promises";
import { test } from "node:test";
import { openConnection } from "../load/http1.ts";
import { pathOf, pattern } from "../load/pattern.ts";
import { startServer } from "../load/rows.ts";
import type { TestScope } from "../support/clean_up.ts";
import { cli } from "../support/cli.ts";
import { fixture, startProgram } from "../support/program.ts";
import { isAlive } from "../support/proc.ts";
import { type Runtime, runtimes } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";

/** The times of the further signals, in milliseconds: what is tried is how far apart they are. */
const APART = [2, 18, 20];

for (const runtime of runtimes) {
  for (const below of ["itself", "reload-self run"]) {
    const wrap = below === "itself" ? [] : [...cli(runtime), "run", "--"];

    test(`${runtime.name}, ${below}: a Ctrl-C that comes four times within 40 ms cuts no answer`, async (t) => {
      const { program, first, target } = await startServer(t, runtime, { kind: "http" }, { wrap });
      const connection = await openConnection(target);
      const ask = { seed: 7, size: 1000, pieces: 10, delay: 100 };
      connection.write(`GET ${pathOf(ask)} HTTP/1.1\r\nHost: test\r\n\r\n`);
      await until("the answer to begin", () => connection.isAnswering);
      const to = below === "itself" ? first.pid : program.process.pid as number;
      program.signal(to, "SIGINT");
      for (const milliseconds of APART) {
        await delay(milliseconds);
        program.signal(to, "SIGINT");
      }
      const { body } = await connection.answer();
      assert.equal(body, pattern(ask.seed, ask.size));
      await until("it to end", () => program.process.exitCode !== null);
      assert.equal(program.process.exitCode, 0);
      assert.deepEqual(program.reports.filter(({ type }) => type === "cancelled").length, 1);
    });

    test(`${runtime.name}, ${below}: one that comes after half a second ends the program at once`, async (t) => {
      const { program, first, target } = await startServer(t, runtime, { kind: "http" }, { wrap });
      const connection = await openConnection(target);
      connection.write(
        `GET ${
          pathOf({ seed: 7, size: 1000, pieces: 10, delay: 10_000 })
        } HTTP/1.1\r\nHost: test\r\n\r\n`,
      );
      const answer = connection.answer().catch(() => "cut");
      const to = below === "itself" ? first.pid : program.process.pid as number;
      program.signal(to, "SIGINT");
      await program.report("cancel");
      const begun = performance.now();
      await until("it to end", () => {
        if (program.process.exitCode === null) program.signal(to, "SIGINT");
        return program.process.exitCode !== null;
      });
      assert.ok(performance.now() - begun > 400, "not before");
      assert.equal(program.process.exitCode, 130);
      assert.equal(await answer, "cut");
      assert.ok(!isAlive(first.pid));
    });
  }
}

/** What a process warns of that is asked to reload twice. */
async function warningsOf(
  t: TestScope,
  runtime: Runtime,
  setup: object,
  signal: NodeJS.Signals,
): Promise<string[]> {
  const env = { LISTENERS: JSON.stringify(setup) };
  const program = startProgram(t, runtime, { script: fixture("listeners.ts"), env });
  const { pid } = await program.report("serving");
  program.signal(pid, signal);
  await program.report("reload-begin");
  program.signal(pid, signal); // A second time, before the same process has ended.
  await program.report("reload-later");
  await program.report("reload-end");
  return program.reports.filter(({ type, pid: from }) => type === "warning" && from === pid).map((
    { message },
  ) => message);
}

for (const runtime of runtimes) {
  test(`${runtime.name}: other listeners to SIGHUP are counted at the first reload, once, with what to do`, async (t) => {
    const [warning = "", ...more] = await warningsOf(t, runtime, {
      listeners: { SIGHUP: 2, SIGTERM: 1 },
    }, "SIGHUP");
    assert.match(
      warning,
      /^2 other listeners handle SIGHUP .*enableShutdownHooks.*close-with-grace.*reloadSignals: \["SIGUSR2"\]/,
    );
    assert.deepEqual(more, []);
  });

  test(`${runtime.name}: nothing is said where nobody else handles the signal that reloads`, async (t) => {
    assert.deepEqual(await warningsOf(t, runtime, { listeners: {} }, "SIGHUP"), []);
    const setup = { listeners: { SIGHUP: 1, SIGTERM: 1 }, options: { reloadSignals: ["SIGUSR2"] } };
    assert.deepEqual(await warningsOf(t, runtime, setup, "SIGUSR2"), []);
  });
}
