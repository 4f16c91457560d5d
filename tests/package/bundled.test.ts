/** What users do to a package: bundle it, require it, load it twice, run it on a Node that is too old. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test, type TestContext } from "node:test";
import { build } from "esbuild";
import { pinned } from "../pinned.mjs";
import { pack, run, unpack } from "../support/package.ts";
import { isAlive } from "../support/proc.ts";
import { startProgram } from "../support/program.ts";
import { type Runtime, runtimes } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";

const folder = mkdtempSync(join(tmpdir(), "reload-self-package-"));
/** Deno is to find the package in node_modules, which the variable of the test runner forbids. */
const { DENO_NO_PACKAGE_JSON: _, ...inheritedState } = process.env;
const environment = { ...inheritedState, NO_COLOR: "1", DENO_NO_UPDATE_CHECK: "1" };
let project: string;
before(async () => {
  project = await unpack(await pack(folder), folder);
  writeFileSync(join(project, "main.ts"), PROGRAM.replace("IMPORT", `import { listen } from "@js0/reload-self";`));
});
after(() => rmSync(folder, { recursive: true, force: true }));

const PROGRAM = `import { createServer } from "node:http";
import process from "node:process";
IMPORT
const token = listen();
const server = createServer((_request, response) => void response.end(String(token.generation)));
token.bind(server, { port: 0 }).then(() => {
  console.log(\`pid \${process.pid}, generation \${token.generation}, port \${server.address().port}\`);
});
`;

/** Starts a program, reloads it, and ends it. */
async function reloads(t: TestContext, runtime: Runtime, file: string): Promise<void> {
  const program = startProgram(t, runtime, { script: file });
  const line = /pid (\d+), generation (\d), port (\d+)/;
  const [, pid, , port] = (line.exec(await program.line(/generation 0/)) ?? []).map(Number);
  program.signal(pid as number);
  const [, next] = (line.exec(await program.line(/generation 1/)) ?? []).map(Number);
  await until("the old process to be gone", () => !isAlive(pid as number));
  assert.equal(await (await fetch(`http://localhost:${port}/`)).text(), "1");
  program.signal(next as number, "SIGTERM");
  await until("the new process to be gone", () => program.pids().length === 0);
}

function bundleWithEsbuild(format: "esm" | "cjs", outfile: string): Promise<unknown> {
  const entryPoints = [join(project, "main.ts")];
  return build({ entryPoints, bundle: true, platform: "node", format, outfile, logLevel: "error" });
}

/** Makes one file of the program, which runs where there is no package. */
const bundlers: Record<string, (outfile: string) => Promise<unknown>> = {
  esbuild: (outfile) => bundleWithEsbuild("esm", outfile),
  "esbuild as CommonJS": (outfile) => bundleWithEsbuild("cjs", outfile),
  "bun build": (outfile) => run(pinned.bun, ["build", "main.ts", "--target=node", `--outfile=${outfile}`], { cwd: project }),
  "deno bundle": (outfile) =>
    run(pinned.deno, ["bundle", "--quiet", "--platform=deno", "-o", outfile, "main.ts"], {
      cwd: project,
      env: environment,
    }),
};

for (const runtime of runtimes) {
  for (const [name, bundle] of Object.entries(bundlers)) {
    test(`${runtime.name}: a program that ${name} has made one file of`, async (t) => {
      const file = join(mkdtempSync(join(folder, "bundle-")), name.endsWith("CommonJS") ? "main.cjs" : "main.mjs");
      await bundle(file);
      assert.ok(existsSync(file));
      await reloads(t, runtime, file);
    });
  }

  test(`${runtime.name}: require() of the package`, async (t) => {
    const file = join(project, "main.cjs");
    const program = PROGRAM.replaceAll(/^import (.*) from (.*);$/gm, "const $1 = require($2);");
    writeFileSync(file, program.replace("IMPORT", `const { listen } = require("@js0/reload-self");`));
    await reloads(t, runtime, file);
  });

  test(`${runtime.name}: two copies of one version share the token; two versions say so`, () => {
    const copy = mkdtempSync(join(folder, "copy-"));
    cpSync(join(project, "node_modules/@js0/reload-self"), copy, { recursive: true });
    const second = JSON.stringify(join(copy, "mod.js"));
    const start = (name: string, code: string) => {
      writeFileSync(join(project, name), code);
      return spawnSync(runtime.executable, [...runtime.flags, name], {
        cwd: project,
        encoding: "utf8",
        timeout: 30_000,
        env: environment,
      });
    };
    const same = start(
      "same.mjs",
      `import { listen } from "@js0/reload-self";
const other = await import(${second});
const token = listen();
console.log(token === other.listen());
token.cancel();
`,
    );
    assert.match(same.stdout, /^true/, same.stderr);
    const versions = start(
      "versions.mjs",
      `globalThis[Symbol.for("@js0/reload-self")] = { adapter: {} }; // as version 0.4 does
await import(${second});
`,
    );
    assert.notEqual(versions.status, 0);
    assert.match(
      versions.stderr,
      /two versions of @js0\/reload-self are loaded in this process: keep one; `npm ls @js0\/reload-self`/,
    );
  });
}

test(
  "a Node that is too old is told so, in one line",
  { skip: !existsSync(pinned.node20) && "no Node 20 for this platform" },
  () => {
    const { status, stderr } = spawnSync(pinned.node20, ["--input-type=module", "-e", `await import("@js0/reload-self")`], {
      cwd: project,
      encoding: "utf8",
    });
    assert.equal(status, 1);
    assert.match(stderr, /^ReloadError: @js0\/reload-self needs Node 22\.6 or later, and this is v20\./m);
    const longest = Math.max(...stderr.split("\n").map((line) => line.length));
    assert.ok(longest < 200, "the file of the package is not shown as one endless line");
  },
);
