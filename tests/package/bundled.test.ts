/**
 * What users do to a package: bundle it, require it, load it twice, run it on a Node that is too
 * old.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test, type TestContext } from "node:test";
import { build } from "esbuild";
import { pinned } from "../pinned.mjs";
import { pack, root, run, unpack } from "../support/package.ts";
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
  writeFileSync(
    join(project, "main.ts"),
    PROGRAM.replace("IMPORT", `import { listen } from "@js0/reload-self";`),
  );
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

/** Tests of a program as Jest runs them by default: as CommonJS. */
const JEST = `const { createServer } = require("node:http");
const { ReloadError } = require("@js0/reload-self");
const { createTestToken } = require("@js0/reload-self/testing");

test("a server is reloaded", async () => {
  const { token, reload } = createTestToken({ saveState: () => "saved" });
  const server = createServer((_request, response) => void response.end("hello"));
  await token.bind(server, { port: 0, host: "127.0.0.1" });
  const url = "http://127.0.0.1:" + server.address().port;
  expect(await (await fetch(url)).text()).toBe("hello");
  expect(await reload()).toEqual({ state: "saved", live: [] });
  expect(await token.drained()).toMatchObject({ complete: true });
  await expect(fetch(url)).rejects.toThrow();
});

test("a reload fails", async () => {
  const logger = { info() {}, warn() {}, error() {} };
  const { token, reload } = createTestToken({ logger, onReload() { throw new Error("no"); } });
  const error = await reload().catch((error) => error);
  expect(error).toBeInstanceOf(ReloadError);
  token.cancel();
  await token.drained();
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
  "bun build": (outfile) =>
    run(pinned.bun, ["build", "main.ts", "--target=node", `--outfile=${outfile}`], {
      cwd: project,
    }),
  "deno bundle": (outfile) =>
    run(pinned.deno, ["bundle", "--quiet", "--platform=deno", "-o", outfile, "main.ts"], {
      cwd: project,
      env: environment,
    }),
};

for (const runtime of runtimes) {
  for (const [name, bundle] of Object.entries(bundlers)) {
    test(`${runtime.name}: a program that ${name} has made one file of`, async (t) => {
      const file = join(
        mkdtempSync(join(folder, "bundle-")),
        name.endsWith("CommonJS") ? "main.cjs" : "main.mjs",
      );
      await bundle(file);
      assert.ok(existsSync(file));
      await reloads(t, runtime, file);
    });
  }

  test(`${runtime.name}: require() of the package`, async (t) => {
    const file = join(project, "main.cjs");
    const program = PROGRAM.replaceAll(/^import (.*) from (.*);$/gm, "const $1 = require($2);");
    writeFileSync(
      file,
      program.replace("IMPORT", `const { listen } = require("@js0/reload-self");`),
    );
    await reloads(t, runtime, file);
  });

  test(`${runtime.name}: the package imported, required, and as CommonJS by its path: one program, one kind of error`, () => {
    writeFileSync(
      join(project, "mixed.mjs"),
      `import { createRequire } from "node:module";
import * as imported from "@js0/reload-self";
const require = createRequire(import.meta.url);
const required = require("@js0/reload-self");
const commonJs = require("./node_modules/@js0/reload-self/cjs/mod.js");
const token = required.listen();
const { createTestToken } = require("./node_modules/@js0/reload-self/cjs/testing.js");
const failed = await createTestToken({ logger: { info() {}, warn() {}, error() {} }, saveState() { throw 1; } }).reload().catch((e) => e);
class Own extends imported.ReloadError {}
console.log(JSON.stringify({
  same: imported.listen === required.listen,
  tokens: imported.listen() === token && commonJs.listen() === token,
  errors: [imported, required, commonJs].map(({ ReloadError }) => failed instanceof ReloadError),
  own: [failed instanceof Own, new Own("exit", "") instanceof Own, new Own("exit", "") instanceof commonJs.ReloadError],
  others: [null, 1, new Error("")].map((error) => error instanceof commonJs.ReloadError),
}));
process.exit();
`,
    );
    const { stdout, stderr } = spawnSync(runtime.executable, [...runtime.flags, "mixed.mjs"], {
      cwd: project,
      encoding: "utf8",
      timeout: 30_000,
      env: environment,
    });
    assert.deepEqual(JSON.parse(stdout || "null"), {
      same: true,
      tokens: true,
      errors: [true, true, true],
      own: [false, true, true],
      others: [false, false, false],
    }, stderr);
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

for (const runtime of runtimes.filter(({ kind }) => kind === "node")) {
  test(`${runtime.name}: require() where no module can be required, as in a Node before 22.12`, async (t) => {
    const flag = runtime.name === "node26"
      ? "--no-require-module"
      : "--no-experimental-require-module";
    const file = join(project, "old.cjs");
    const program = PROGRAM.replaceAll(/^import (.*) from (.*);$/gm, "const $1 = require($2);");
    const check =
      `if (!require.resolve("@js0/reload-self").includes("cjs")) throw new Error("a module");\n`;
    writeFileSync(
      file,
      check + program.replace("IMPORT", `const { listen } = require("@js0/reload-self");`),
    );
    await reloads(t, { ...runtime, flags: [...runtime.flags, flag] }, file);
  });

  test(`${runtime.name}: Jest, without flags`, () => {
    const place = mkdtempSync(join(project, "jest-"));
    writeFileSync(
      join(place, "package.json"),
      JSON.stringify({ type: "commonjs", jest: { testEnvironment: "node" } }),
    );
    writeFileSync(join(place, "program.test.js"), JEST);
    const { status, stderr } = spawnSync(runtime.executable, [
      join(root, "node_modules/jest/bin/jest.js"),
      "--ci",
    ], {
      cwd: place,
      encoding: "utf8",
      timeout: 60_000,
      env: { ...environment, NODE_TEST_CONTEXT: undefined },
    });
    assert.equal(status, 0, stderr);
    assert.match(stderr, /Tests: +2 passed, 2 total/);
    assert.doesNotMatch(stderr, /did not exit|open handle/);
  });
}

test(
  "a Node that is too old is told so, in one line",
  { skip: !existsSync(pinned.node20) && "no Node 20 for this platform" },
  () => {
    const { status, stderr } = spawnSync(pinned.node20, [
      "--input-type=module",
      "-e",
      `await import("@js0/reload-self")`,
    ], {
      cwd: project,
      encoding: "utf8",
    });
    assert.equal(status, 1);
    assert.match(
      stderr,
      /^ReloadError: @js0\/reload-self needs Node 22\.6 or later, and this is v20\./m,
    );
    const longest = Math.max(...stderr.split("\n").map((line) => line.length));
    assert.ok(longest < 200, "the file of the package is not shown as one endless line");
  },
);
