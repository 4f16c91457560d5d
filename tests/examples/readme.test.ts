/**
 * The README, step by step as a newcomer follows it: the installation from a clone, the programs,
 * and the output.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, test, type TestContext } from "node:test";
import { pinned } from "../pinned.mjs";
import { blockOf, blocksOf } from "../support/documentation.ts";
import { pathWith, root, run } from "../support/package.ts";
import { freePort } from "../support/port.ts";
import { isAlive } from "../support/proc.ts";
import { type Program, startProgram } from "../support/program.ts";
import { oneOfEachKind, type Runtime } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";

const world = mkdtempSync(join(tmpdir(), "reload-self-readme-"));
const project = join(world, "project");
const env = {
  ...process.env,
  PATH: pathWith(world, { node: pinned.node26, bun: pinned.bun, deno: pinned.deno }),
  npm_config_offline: "true",
  DENO_NO_UPDATE_CHECK: "1",
  DENO_NO_PACKAGE_JSON: undefined,
};

before(async () => {
  const clone = join(world, "reload-self");
  const files = execFileSync("git", ["ls-files", "--cached", "--others", "--exclude-standard"], {
    cwd: root,
    encoding: "utf8",
  });
  for (const name of files.trim().split("\n")) {
    if (!existsSync(join(root, name))) continue; // Removed, and not committed yet.
    mkdirSync(dirname(join(clone, name)), { recursive: true });
    cpSync(join(root, name), join(clone, name));
  }
  // In place of `npm ci`, which takes a network.
  symlinkSync(join(root, "node_modules"), join(clone, "node_modules"));
  mkdirSync(project);
  writeFileSync(join(project, "package.json"), JSON.stringify({ name: "project", type: "module" }));
  const command = blockOf("README.md", "## Install", "sh") as string;
  assert.match(command, /npm ci && /);
  await run("/bin/sh", ["-c", command.replace("npm ci && ", "")], { cwd: project, env });
});
after(() => rmSync(world, { recursive: true, force: true }));

/**
 * What a client gets on a connection of its own: one that stays open would move, and be in the log.
 */
const get = (port: number) =>
  until("an answer", () =>
    fetch(`http://127.0.0.1:${port}/`, { headers: { connection: "close" } })
      .then((response) => response.text(), () => undefined));

/** Reloads a program whose answer is its pid. Returns the pid of the process that answers then. */
async function reload(program: Program, port: number, pid: number): Promise<number> {
  program.signal(pid);
  const next = await until("the new process to answer", async () => {
    const answer = await get(port);
    return answer !== `pid ${pid}\n` && answer;
  });
  await until("the old process to be gone", () => !isAlive(pid));
  return Number(/^pid (\d+)\n$/.exec(next)?.[1]);
}

async function end(program: Program, pid: number): Promise<void> {
  program.signal(pid, "SIGTERM");
  await until("all to be gone", () => program.pids().length === 0);
}

const start = (t: TestContext, runtime: Runtime, command: string, cwd: string) =>
  startProgram(t, runtime, { command: ["/bin/sh", "-c", `exec ${command}`], cwd, env });

/** The command of a runtime in a block of the README. */
const commandOf = (heading: string, { kind }: Runtime) =>
  (blockOf("README.md", heading, "sh") as string).split("\n").find((line) =>
    line.startsWith(`${kind} `)
  ) as string;

/** A folder below the project, where the programs of one test are. */
function place(name: string, file: string, code: string): string {
  const folder = join(project, name);
  mkdirSync(folder, { recursive: true });
  if (!existsSync(join(folder, "node_modules"))) {
    symlinkSync("../node_modules", join(folder, "node_modules"));
  }
  cpSync(join(project, "package.json"), join(folder, "package.json"));
  writeFileSync(join(folder, file), code);
  return folder;
}

/** Programs that know nothing of the library. */
const unaware: Record<Runtime["kind"], (port: number) => [file: string, code: string]> = {
  node: (port) => [
    "server.js",
    `import { createServer } from "node:http";
createServer((_request, response) => response.end(\`pid \${process.pid}\\n\`)).listen(${port});\n`,
  ],
  bun: (
    port,
  ) => [
    "server.ts",
    `Bun.serve({ port: ${port}, fetch: () => new Response(\`pid \${process.pid}\\n\`) });\n`,
  ],
  deno: (
    port,
  ) => [
    "server.ts",
    `Deno.serve({ port: ${port} }, () => new Response(\`pid \${Deno.pid}\\n\`));\n`,
  ],
};

for (const runtime of oneOfEachKind) {
  test(`README, no code: on ${runtime.kind}`, async (t) => {
    const port = await freePort();
    const folder = place(`no-code-${runtime.kind}`, ...unaware[runtime.kind](port));
    const program = start(t, runtime, commandOf("## No code", runtime), folder);
    const pid = Number(/\d+/.exec(await get(port))?.[0]);
    await end(program, await reload(program, port, pid));
    assert.deepEqual(program.lines.filter((line) => !line.startsWith("Listening on ")), []);
  });

  test(`README, one line: on ${runtime.kind}, with the output of a reload and of a bad version`, async (t) => {
    const port = await freePort();
    const code = blocksOf("README.md", "ts").find((code) =>
      code.toLowerCase().startsWith(`// ${runtime.kind}\n`)
    );
    assert.ok(code !== undefined, "there is a program");
    const folder = place(`one-line-${runtime.kind}`, "main.ts", code.replace("8000", String(port)));
    const program = start(t, runtime, commandOf("## One line", runtime), folder);
    const pid = Number(/\d+/.exec(await get(port))?.[0]);
    const next = await reload(program, port, pid);
    await program.line(/reload done/);
    // Without what differs each time. Two processes write, so the order is not always the same.
    const plain = (lines: readonly string[]) =>
      lines.filter((line) => line.startsWith("reload-self: "))
        .map((line) => line.replace(/(pid|process) \d+/gi, "$1 N").replace(/\d+ ms/, "N ms"))
        .sort();
    const [good = "", bad = ""] = blocksOf("README.md", "text");
    assert.deepEqual(plain(program.lines), plain(good.split("\n")));

    const from = program.lines.length;
    writeFileSync(join(folder, "main.ts"), `throw new Error("broken");\n`);
    program.signal(next);
    await program.line(/reload failed/);
    const written = plain(program.lines.slice(from));
    for (const line of plain(bad.split("\n"))) {
      assert.ok(written.includes(line), `${line}\n${written.join("\n")}`);
    }
    assert.equal(await get(port), `pid ${next}\n`);
    await end(program, next);
  });
}

test("the Chinese twins of the README and of its first steps have the same code", () => {
  for (
    const [file, twin] of [["README.md", "README.zh.md"], [
      "docs/getting-started.md",
      "docs/zh/getting-started.md",
    ]] as const
  ) {
    for (const language of ["ts", "sh", "text"]) {
      assert.deepEqual(blocksOf(twin, language), blocksOf(file, language), twin);
    }
  }
});
