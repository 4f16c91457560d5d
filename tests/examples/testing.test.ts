/** docs/testing.md: its program, and its tests by each runtime's own runner. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { blocksOf } from "../support/documentation.ts";
import { DEPENDENCIES, provide } from "../support/package.ts";
import { freePort } from "../support/port.ts";
import { pidOnLine, startProgram } from "../support/program.ts";
import { oneOfEachKind, type Runtime } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";

/**
 * How each runtime runs the tests of a folder: the arguments, and the import by which a piece of
 * code is known to be for it.
 */
const runners: Record<
  Runtime["kind"],
  { args: readonly string[]; isFor: RegExp; succeeded: RegExp }
> = {
  node: { args: ["--test", "counter.test.ts"], isFor: /from "node:test"/, succeeded: /pass 1$/m },
  bun: { args: ["test", "counter.test.ts"], isFor: /from "bun:test"/, succeeded: /1 pass$/m },
  deno: {
    args: ["test", "-A", "--no-check", "counter.test.ts"],
    isFor: /^Deno\.test\(/m,
    succeeded: /1 passed/,
  },
};
const { NODE_TEST_CONTEXT: _, DENO_NO_PACKAGE_JSON: __, ...env } = process.env;

const project = mkdtempSync(join(tmpdir(), "reload-self-testing-"));
before(() => provide(project, ...DEPENDENCIES));
after(() => rmSync(project, { recursive: true, force: true }));

for (const file of ["docs/testing.md", "docs/zh/testing.md"]) {
  const blocks = blocksOf(file, "ts");
  const [program = "", main = "", ...tests] = blocks;
  for (const runtime of oneOfEachKind) {
    test(`${file}: on ${runtime.kind}`, async (t) => {
      const folder = mkdtempSync(join(project, "test-"));
      const { args, isFor, succeeded } = runners[runtime.kind];
      writeFileSync(join(folder, "counter.ts"), program);
      writeFileSync(
        join(folder, "counter.test.ts"),
        tests.find((code) => isFor.test(code)) as string,
      );
      const result = spawnSync(runtime.executable, args, {
        cwd: folder,
        encoding: "utf8",
        timeout: 60_000,
        env: { ...env, NO_COLOR: "1" },
      });
      assert.equal(result.status, 0, result.stdout + result.stderr);
      assert.match(result.stdout + result.stderr, succeeded);

      const port = await freePort();
      writeFileSync(
        join(folder, "main.ts"),
        `${
          main.replace("8000", String(port))
        }console.log(\`pid \${(await import("node:process")).pid} listens\`);\n`,
      );
      const started = startProgram(t, runtime, {
        script: "main.ts",
        cwd: folder,
        env: { DENO_NO_PACKAGE_JSON: undefined },
      });
      const get = async () => await (await fetch(`http://127.0.0.1:${port}/`)).text();
      const pid = await pidOnLine(started, /listens$/);
      assert.equal(await get(), "visit 1");
      started.signal(pid);
      await until(
        "the next process alone",
        () => started.pids().length === 1 && started.pids()[0] !== pid,
      );
      assert.equal(await get(), "visit 2");
    });
  }
}
