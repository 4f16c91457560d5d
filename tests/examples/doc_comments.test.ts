/**
 * The examples of the doc comments, as they stand: each is a program that runs with the package as
 * it is published, and ends.
 */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { examplesOf } from "../support/documentation.ts";
import { DEPENDENCIES, provide, root } from "../support/package.ts";
import { freePort } from "../support/port.ts";
import { startProgram } from "../support/program.ts";
import { oneOfEachKind } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";

const entries = Object.values<string>(
  JSON.parse(readFileSync(join(root, "jsr.json"), "utf8")).exports,
);
const files = [...entries, "src/core/error.ts", "src/core/token.ts"];

const folder = mkdtempSync(join(tmpdir(), "reload-self-examples-"));
before(() => provide(folder, ...DEPENDENCIES));
after(() => rmSync(folder, { recursive: true, force: true }));

for (
  const [i, { file, declaration, code }] of files.flatMap((file) =>
    examplesOf(file).map((example) => ({ file, ...example }))
  )
    .entries()
) {
  for (const runtime of oneOfEachKind) {
    const other = (["Bun", "Deno"] as const).find((name) =>
      new RegExp(`^[^/]*\\b${name}\\.`, "m").test(code)
    );
    if (other !== undefined && other.toLowerCase() !== runtime.kind) continue;
    test(`${file}, ${declaration}: on ${runtime.kind}`, async (t) => {
      const script = join(folder, `${runtime.kind}_${i}.ts`);
      // An operator stops those that do not stop themselves, when they have done everything else.
      const waits = /^.*await token\.(cancelled|drained)\(\);$/m;
      const isStopped = !/\btoken\.cancel\(/.test(code) && waits.test(code);
      const end = `console.log("the end of the example");\n`;
      const body = isStopped ? code.replace(waits, `${end}$&`) : code + end;
      writeFileSync(script, body.replaceAll(/\b8000\b/g, String(await freePort())));
      const program = startProgram(t, runtime, {
        script,
        cwd: folder,
        env: { DENO_NO_PACKAGE_JSON: undefined },
      });
      const { process } = program;
      const hasEnded = () => (process.exitCode ?? process.signalCode) !== null;
      const processes = code.includes("token.reload()") ? 2 : 1;
      const count = () => program.lines.filter((line) => line === "the end of the example").length;
      await until(`the end of the example: ${code}`, () => count() === processes || hasEnded());
      if (isStopped) { for (const pid of program.pids()) program.signal(pid, "SIGTERM"); }
      await until("the example to be gone", () => program.pids().length === 0 && hasEnded());
      assert.equal(process.exitCode, 0, program.lines.join("\n"));
      assert.deepEqual(
        program.lines.filter((line) => /error|warning|reload-self:/i.test(line)),
        [],
      );
    });
  }
}

test("every function that programs call has an example", () => {
  for (const file of entries) {
    const source = readFileSync(join(root, file), "utf8");
    const described = examplesOf(file).map(({ declaration }) => declaration);
    for (
      const name of new Set(
        [...source.matchAll(/^export (?:async )?function (\w+)/gm)].map(([, name]) => name),
      )
    ) {
      assert.ok(
        described.some((line) => new RegExp(`^export (async )?function ${name}\\b`).test(line)),
        `${file}: ${name}`,
      );
    }
  }
  const source = readFileSync(join(root, "src/core/token.ts"), "utf8");
  const described = examplesOf("src/core/token.ts").map(({ declaration }) =>
    /^\w+/.exec(declaration)?.[0]
  );
  for (const name of ["CancellationToken", "Token"]) {
    const [, body = ""] =
      new RegExp(`^export interface ${name} [^]*?\\{\n([^]*?)^\\}`, "m").exec(source) ?? [];
    const methods = [...body.matchAll(/^ {2}(\w+)(<.*>)?\(/gm)].map(([, name]) => name);
    assert.ok(methods.length > 4, name);
    for (const method of methods) assert.ok(described.includes(method), `${name}.${method}`);
  }
});
