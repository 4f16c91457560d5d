/**
 * examples/deno: programs with Deno's standard library, and their tests. The library comes from
 * JSR, or, where the variable STD names a folder, from the copy of github.com/denoland/std there.
 */
import assert from "node:assert/strict";
import { existsSync, globSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, test, type TestContext } from "node:test";
import { pathToFileURL } from "node:url";
import { pinned } from "../pinned.mjs";
import { root, run } from "../support/package.ts";
import { freePort } from "../support/port.ts";
import { isAlive } from "../support/proc.ts";
import { pidOnLine, type Program, startProgram } from "../support/program.ts";
import { runtimes } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";

const deno = runtimes.find(({ kind }) => kind === "deno");
const { STD, DENO_NO_PACKAGE_JSON: _, ...env } = process.env;
const reachesJsr = () =>
  fetch("https://jsr.io/@std/async/meta.json", { signal: AbortSignal.timeout(5_000) }).then(
    ({ ok }) => ok,
    () => false,
  );
const skip = deno === undefined ? "not asked for" : STD === undefined && !await reachesJsr() &&
  "jsr.io cannot be reached; STD=<folder> names a copy of github.com/denoland/std";

/** The packages of a copy, as imports. */
function importsOf(std: string): Record<string, string> {
  const manifests = globSync("*/deno.json", { cwd: std });
  assert.ok(
    manifests.length > 0 && existsSync(join(std, "assert")),
    `STD=${std}: no copy of the standard library of Deno`,
  );
  return Object.fromEntries(manifests.flatMap((file) => {
    const { name, exports } = JSON.parse(readFileSync(join(std, file), "utf8"));
    const files: Record<string, string> = typeof exports === "string" ? { ".": exports } : exports;
    return Object.entries(files).map((
      [key, path],
    ) => [name + key.slice(1), pathToFileURL(join(std, file, "..", path)).href] as const);
  }));
}

/** The flags with which Deno finds the library. */
const flags: string[] = [];
if (STD !== undefined && !skip) {
  const folder = mkdtempSync(join(tmpdir(), "reload-self-std-"));
  after(() => rmSync(folder, { recursive: true }));
  writeFileSync(
    join(folder, "deno.json"),
    JSON.stringify({ imports: importsOf(resolve(root, STD)) }),
  );
  flags.push("--config", join(folder, "deno.json"));
}

const script = (name: string) => join(root, "examples/deno", name);

const files = globSync("examples/deno/*.ts", { cwd: root });
const own = {
  cwd: root,
  env: { ...env, NO_COLOR: "1", DENO_NO_UPDATE_CHECK: "1", DENO_NO_PACKAGE_JSON: "1" },
};

/** Starts a program with no more permissions than it says it needs. */
function start(t: TestContext, name: string, permissions: string[], ...args: string[]): Program {
  const command = [
    pinned.deno,
    "run",
    "--no-lock",
    ...flags,
    ...permissions,
    script(name),
    ...args,
  ];
  return startProgram(t, deno as NonNullable<typeof deno>, { command, env: own.env });
}
const mayRun = `--allow-run=${pinned.deno}`;

test(
  "the types",
  { skip },
  async () => void await run(pinned.deno, ["check", "--no-lock", ...flags, ...files], own),
);

test("the tests beside them", { skip }, async () => {
  const permissions = ["--allow-net", "--allow-env", "--allow-ffi"];
  const tests = files.filter((name) => name.endsWith("_test.ts"));
  const { stdout } = await run(pinned.deno, [
    "test",
    "--no-lock",
    ...flags,
    ...permissions,
    ...tests,
  ], own);
  assert.match(stdout, /ok \| 4 passed \| 0 failed/);
});

test("ticker.ts: its tasks end at a reload, and go on in the new process", { skip }, async (t) => {
  const program = start(t, "ticker.ts", ["--allow-env", mayRun], "--every", "50");
  const pid = await pidOnLine(program, /generation 0$/);
  program.signal(pid);
  const next = await pidOnLine(program, /generation 1$/);
  await program.line(new RegExp(`^pid ${pid}: done, 0 tasks failed$`));
  program.signal(next, "SIGTERM");
  await program.line(new RegExp(`^pid ${next}: done, 0 tasks failed$`));
  await until("all to be gone", () => program.pids().length === 0);
});

test("server.ts: a deadline, and a reload", { skip }, async (t) => {
  const port = await freePort();
  const program = start(
    t,
    "server.ts",
    ["--allow-net", "--allow-env", "--allow-ffi", mayRun],
    ...["--port", String(port), "--timeout", "50"],
  );
  const get = async (path: string) => (await fetch(`http://127.0.0.1:${port}${path}`)).text();
  const first = await until("an answer", () => get("/").catch(() => undefined));
  assert.match(first, /^pid \d+, generation 0\n$/);
  assert.equal(await get("/never"), "too late\n");
  const pid = Number(/\d+/.exec(first)?.[0]);
  program.signal(pid);
  await until("the old process to be gone", () => !isAlive(pid));
  assert.match(await get("/"), /^pid \d+, generation 1\n$/);
});
