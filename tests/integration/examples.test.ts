/** The examples, and the programs of the documentation, unchanged on all runtimes. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test, type TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import { pinned } from "../pinned.mjs";
import { isAlive } from "../support/proc.ts";
import { freePort } from "../support/port.ts";
import { startProgram, temporaryFolder } from "../support/program.ts";
import { type Runtime, runtimes } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";

const root = dirname(fileURLToPath(new URL("../../mod.ts", import.meta.url)));

/** The flags that the examples ask for. */
const flags = ({ kind, executable, flags }: Runtime) =>
  kind === "deno" ? ["run", "--quiet", "--allow-env", `--allow-run=${executable}`] : flags;

for (const runtime of runtimes) {
  test(`${runtime.name}: examples/loop.ts`, async (t) => {
    const program = startProgram(t, runtime, { flags: flags(runtime), script: `${root}/examples/loop.ts` });
    const pid = Number(/\d+/.exec(await program.line(/generation 0: round 1$/))?.[0]);
    program.signal(pid);
    const next = Number(/\d+/.exec(await program.line(/generation 1: round 1$/))?.[0]);
    await program.line(new RegExp(`^pid ${pid}, generation 0: replaced by pid ${next}$`));
    await until("the old process to be gone", () => !isAlive(pid));
    await program.line(/generation 1: round 2$/);
    program.signal(next, "SIGINT");
    await program.line(/generation 1: shut down$/);
    await until("the process to be gone", () => program.pids().length === 0);
  });

  test(`${runtime.name}: examples/ten_tasks.ts`, async (t) => {
    const program = startProgram(t, runtime, { flags: flags(runtime), script: `${root}/examples/ten_tasks.ts` });
    const pid = Number(/\d+/.exec(await program.line(/generation 0: ten tasks are running$/))?.[0]);
    program.signal(pid);
    const next = Number(/\d+/.exec(await program.line(/generation 1: ten tasks are running$/))?.[0]);
    await program.line(/generation 0: task 1 finished$/); // The new process is in charge.
    program.signal(next, "SIGTERM");
    for (const generation of [0, 1]) {
      await program.line(new RegExp(`generation ${generation}: all have finished$`));
      for (let task = 1; task <= 11; task++) {
        assert.equal(
          program.lines.filter((line) => line.endsWith(`generation ${generation}: task ${task} finished`)).length,
          1,
        );
      }
    }
    await until("all to be gone", () => program.pids().length === 0);
  });
}

type Kind = Runtime["kind"];

/** The programs of the documentation: in which file, under which heading, for which runtimes. */
const programs: [file: string, heading: string, kinds: readonly Kind[]][] = [
  ["README.md", "## A program", ["deno", "bun", "node"]],
  ["README.zh.md", "## 一个程序", ["deno", "bun", "node"]],
  ["docs/servers.md", "## Deno.serve", ["deno"]],
  ["docs/servers.md", "## Bun.serve", ["bun"]],
  ["docs/zh/servers.md", "## Deno.serve", ["deno"]],
  ["docs/zh/servers.md", "## Bun.serve", ["bun"]],
];

for (const [name, heading, kinds] of programs) {
  for (const kind of kinds) {
    const runtime = runtimes.findLast((runtime) => runtime.kind === kind) as Runtime;
    test(`${name}, ${heading}: on ${kind}`, { skip: runtime === undefined && "not asked for" }, async (t) => {
      const text = readFileSync(`${root}/${name}`, "utf8");
      const section = text.slice(text.indexOf(`\n${heading}`) + 1).slice(heading.length).split(/^## /m)[0] as string;
      const [, code] = /```ts\n([^]*?)```/.exec(section) ?? [];
      const commands = /```sh\n([^]*?)```/.exec(section)?.[1]?.split("\n") ?? [];
      const command = commands.find((line) => line.startsWith(`${kind} `) && line.endsWith(" main.ts"));
      assert.ok(code !== undefined && command !== undefined, "there is a program and a command to start it");
      const folder = installed(t);
      writeFileSync(join(folder, "deno.json"), JSON.stringify({ imports: { "@js0/reload-self": `${root}/mod.ts` } }));
      const source = code.replace("jsr:@js0/reload-self", "@js0/reload-self");
      const port = await freePort();
      writeFileSync(join(folder, "main.ts"), source.replace("8000", String(port)));
      const bin = join(folder, "bin");
      mkdirSync(bin);
      symlinkSync(runtime.executable, join(bin, kind));
      const program = startProgram(t, runtime, {
        command: ["/bin/sh", "-c", `cd "$0" && exec ${command}`, folder],
        env: { PATH: `${bin}:${process.env.PATH}` },
      });
      const pid = Number(/\d+/.exec(await program.line(/generation 0/))?.[0]);
      program.signal(pid);
      const next = Number(/\d+/.exec(await program.line(/^pid \d+, generation 1/))?.[0]);
      await until("the old process to be gone", () => !isAlive(pid));
      assert.equal(await (await fetch(`http://localhost:${port}/`)).text(), `pid ${next}, generation 1\n`);
      program.signal(next, "SIGTERM");
      await until("the new process to be gone", () => program.pids().length === 0);
      assert.deepEqual(program.lines.filter((line) => /error|failed/i.test(line)), []);
    });
  }
}

/** A folder with the library in its node_modules, as JavaScript, as JSR's npm registry delivers it. */
function installed(t: TestContext): string {
  const folder = temporaryFolder(t);
  const library = join(folder, "node_modules/@js0/reload-self");
  mkdirSync(library, { recursive: true });
  writeFileSync(join(folder, "package.json"), `{"type":"module"}`);
  writeFileSync(join(library, "package.json"), `{"type":"module","exports":"./mod.js"}`);
  const compile = ["--project", root, "--noEmit", "false", "--declaration", "false", "--isolatedDeclarations", "false"];
  const rewrite = ["--rewriteRelativeImportExtensions", "--rootDir", root, "--outDir", library];
  execFileSync(pinned.node26, [`${root}/node_modules/typescript/bin/tsc`, ...compile, ...rewrite], {
    cwd: root,
    stdio: "pipe",
  });
  return folder;
}
