/** The package as users install it: the tarball, in an empty project of each package manager. */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test, type TestContext } from "node:test";
import { pinned } from "../pinned.mjs";
import { readmeProgram } from "../support/documentation.ts";
import { install, pack, pathWith, root, run } from "../support/package.ts";
import { freePort } from "../support/port.ts";
import { isAlive } from "../support/proc.ts";
import { pidOnLine, startProgram } from "../support/program.ts";
import { type Runtime, runtimes } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";

const folder = mkdtempSync(join(tmpdir(), "reload-self-package-"));
const PATH = pathWith(folder, {
  node: pinned.node24,
  bun: pinned.bun,
  bunx: pinned.bun,
  deno: pinned.deno,
});
const env = { ...process.env, PATH, NO_COLOR: "1", DENO_NO_UPDATE_CHECK: "1" };
let tarball: string;

before(async () => {
  tarball = await pack(folder, env);
});
after(() => rmSync(folder, { recursive: true, force: true }));

/**
 * Starts a command in a project, reloads it by the command line as it is installed there, and ends
 * it.
 */
async function reloads(
  t: TestContext,
  runtime: Runtime,
  project: string,
  command: string,
  tool: string[],
): Promise<void> {
  const port = await freePort();
  writeFileSync(join(project, "main.ts"), readmeProgram(port));
  const program = startProgram(t, runtime, {
    command: ["/bin/sh", "-c", `cd "$0" && exec ${command}`, project],
    env,
  });
  const pid = await pidOnLine(program, /generation 0/);
  const [file = "", ...args] = tool;
  const toolEnv = { ...env, XDG_RUNTIME_DIR: program.runtimeFolder };
  const reloaded = await run(file, [...args, "reload", String(pid)], {
    cwd: project,
    env: toolEnv,
  });
  const next = Number(/pid \d+ → (\d+)/.exec(reloaded.stdout)?.[1]);
  await until("the old process to be gone", () => !isAlive(pid));
  assert.equal(
    await (await fetch(`http://localhost:${port}/`)).text(),
    `pid ${next}, generation 1\n`,
  );
  const status = await run(file, [...args, "status", "--json", String(next)], {
    cwd: project,
    env: toolEnv,
  });
  assert.equal(JSON.parse(status.stdout).generation, 1);
  assert.match(
    (await run(file, [...args, "doctor"], { cwd: project, env: toolEnv })).stdout,
    /command line +read from \/proc/,
  );
  program.signal(next, "SIGTERM");
  await until("the new process to be gone", () => program.pids().length === 0);
}

/** Serves a module by the command line as it is installed, reloads it, and ends it. */
async function serves(
  t: TestContext,
  runtime: Runtime,
  project: string,
  tool: string[],
): Promise<void> {
  writeFileSync(
    join(project, "app.ts"),
    `export default { fetch: () => new Response("served") };\n`,
  );
  const command = [
    "/bin/sh",
    "-c",
    `cd "$0" && exec "$@"`,
    project,
    ...tool,
    "serve",
    "app.ts",
    "--port",
    "0",
  ];
  const program = startProgram(t, runtime, { command, env });
  const line = /Listening on (\S+) \(pid (\d+)/;
  const [, url = "", pid = ""] = line.exec(await program.line(line)) ?? [];
  program.signal(Number(pid));
  await program.line(/generation 1\)/);
  await until("the old process to be gone", () => !isAlive(Number(pid)));
  assert.equal(await (await fetch(url)).text(), "served");
  for (const pid of program.pids()) program.signal(pid, "SIGTERM");
  await until("all to be gone", () => program.pids().length === 0);
}

/**
 * Runs the README's program below `reload-self run` as it is installed, reloads it, and ends both.
 */
async function runs(
  t: TestContext,
  runtime: Runtime,
  project: string,
  command: string[],
  tool: string[],
): Promise<void> {
  const port = await freePort();
  writeFileSync(join(project, "main.ts"), readmeProgram(port));
  const all = ["/bin/sh", "-c", `cd "$0" && exec "$@"`, project, ...tool, "run", "--", ...command];
  const program = startProgram(t, runtime, { command: all, env });
  const pid = await pidOnLine(program, /generation 0: listening/);
  program.signal(pid);
  await program.line(/generation 1: listening/);
  await until("the old process to be gone", () => !isAlive(pid));
  assert.match(await (await fetch(`http://localhost:${port}/`)).text(), /generation 1/);
  program.signal(program.process.pid as number, "SIGTERM");
  await until(
    "all to be gone",
    () => program.pids().length === 0 && program.process.exitCode !== null,
  );
}

const runtimeOf = (kind: Runtime["kind"]) =>
  runtimes.findLast((runtime) => runtime.kind === kind) as Runtime;
const skip = (kind: Runtime["kind"]) => runtimeOf(kind) === undefined && "not asked for";

test(
  "npm and Node: the README's program, and npx reload-self",
  { skip: skip("node") },
  async (t) => {
    const project = await install("npm", tarball, folder, env);
    const npx = ["npx", "--offline", "reload-self"];
    await reloads(t, runtimeOf("node"), project, "node main.ts", npx);
    await serves(t, runtimeOf("node"), project, npx);
    await runs(t, runtimeOf("node"), project, ["node", "main.ts"], [
      join(project, "node_modules/.bin/reload-self"),
    ]);
  },
);

test("Bun: the README's program, and bunx reload-self", { skip: skip("bun") }, async (t) => {
  const project = await install("bun", tarball, folder, env);
  const bunx = ["bunx", "--bun", "reload-self"];
  await reloads(t, runtimeOf("bun"), project, "bun main.ts", bunx);
  await serves(t, runtimeOf("bun"), project, bunx);
  await runs(t, runtimeOf("bun"), project, ["bun", "main.ts"], ["bun", "--bun", "reload-self"]);
});

test("Bun below `reload-self run --auto`, in a folder whose name has a space", {
  skip: skip("bun"),
}, async (t) => {
  const project = join(folder, "a b");
  renameSync(await install("bun", tarball, folder, env), project);
  const port = await freePort();
  writeFileSync(
    join(project, "main.ts"),
    `Bun.serve({ port: ${port}, fetch: () => new Response(String(process.pid)) });\n` +
      "console.log(`serves, pid ${process.pid}`);\n",
  );
  const tool = ["bun", "--bun", "reload-self", "run", "--auto", "--", "bun", "main.ts"];
  const command = ["/bin/sh", "-c", `cd "$0" && exec "$@"`, project, ...tool];
  const program = startProgram(t, runtimeOf("bun"), { command, env });
  const first = await pidOnLine(program, /serves, pid/);
  program.signal(first);
  await until("the old process to be gone", () => !isAlive(first));
  assert.notEqual(await (await fetch(`http://localhost:${port}/`)).text(), String(first));
  program.signal(program.process.pid as number, "SIGTERM");
  await until("all to be gone", () => program.process.exitCode !== null);
});

test("Deno with a node_modules folder: the README's program, and deno run npm:", {
  skip: skip("deno"),
}, async (t) => {
  const project = await install("npm", tarball, folder, env);
  writeFileSync(join(project, "deno.json"), JSON.stringify({ nodeModulesDir: "manual" }));
  const command = "deno run --allow-all main.ts";
  const tool = ["deno", "run", "-A", "--unstable-net", "npm:@js0/reload-self/cli"];
  await reloads(t, runtimeOf("deno"), project, command, tool);
  await serves(t, runtimeOf("deno"), project, tool);
  await runs(t, runtimeOf("deno"), project, command.split(" "), tool);
});

test("the types, in strict mode, for both ways to resolve modules", async () => {
  const project = await install("npm", tarball, folder, env);
  writeFileSync(
    join(project, "main.ts"),
    `import { listen, ReloadError, type Token } from "@js0/reload-self";
import { serve } from "@js0/reload-self/serve";
const token: Token = listen({ probation: 10, idleGrace: 10, onEvent: (event) => event.type === "reload-fail" && event.error.code });
const { url } = await serve(() => new Response(String(token.generation)), { port: 0 });
token.reload().catch((error: unknown) => error instanceof ReloadError && error.exitCode === 1);
// @ts-expect-error no such option
listen({ setle: 10 });
export const where: string = url;
`,
  );
  symlinkSync(join(root, "node_modules/@types"), join(project, "node_modules/@types"));
  symlinkSync(join(root, "node_modules/undici-types"), join(project, "node_modules/undici-types"));
  for (const resolution of ["nodenext", "bundler"]) {
    const module = resolution === "bundler" ? "esnext" : "nodenext";
    const options = [
      "--strict",
      "--noEmit",
      "--target",
      "esnext",
      "--module",
      module,
      "--moduleResolution",
      resolution,
    ];
    await run(pinned.node26, [
      join(root, "node_modules/typescript/bin/tsc"),
      ...options,
      "--types",
      "node",
      "main.ts",
    ], {
      cwd: project,
    });
  }
});

test("the package has what it needs, and nothing else", async () => {
  const { dependencies, files, exports, bin } = JSON.parse(
    readFileSync(join(folder, "dist/package.json"), "utf8"),
  );
  assert.deepEqual(Object.keys(dependencies), ["croner", "srvx"]);
  const { stdout } = await run("tar", ["-tzf", tarball]);
  const packed = stdout.trim().split("\n").map((name) => name.replace("package/", ""));
  const paths = [...JSON.stringify(exports).matchAll(/"\.\/([^"]+\.[a-z]+)"/g)].map(([, path]) =>
    path as string
  );
  assert.ok(paths.includes("cjs/types/mod.d.ts"));
  for (const path of paths) assert.ok(packed.includes(path), path);
  assert.ok(packed.includes(bin["reload-self"].replace("./", "")));
  assert.deepEqual(
    packed.filter((name) =>
      !["package.json", ...files].some((file) => name === file || name.startsWith(`${file}/`))
    ),
    [],
  );
});

test("JSR takes the package: a file of JavaScript for each entry point, documented by its source", async () => {
  const args = ["publish", "--dry-run", "--allow-dirty", "--no-check"];
  // Without it Deno looks for the dependencies of the package.json for npm in a node_modules;
  // tools/release.ts says the same.
  const { stderr } = await run(pinned.deno, args, {
    cwd: join(folder, "dist"),
    env: { ...env, DENO_NO_PACKAGE_JSON: "1" },
  });
  assert.match(stderr, /Success Dry run complete/);
  for (const name of ["mod.js", "mod.ts", "src/core/token.ts", "README.md"]) {
    assert.ok(stderr.includes(`/dist/${name}`), name);
  }
  const { stdout } = await run(pinned.deno, ["doc", "mod.js"], { cwd: join(folder, "dist"), env });
  assert.ok(stdout.includes("function listen(options: ListenOptions): Token"));
});
