/** The programs and the commands of the documentation, as they stand. */
import assert from "node:assert/strict";
import { globSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test, type TestContext } from "node:test";
import { build } from "../../tools/build.ts";
import { pinned } from "../pinned.mjs";
import { cleanUp } from "../support/clean_up.ts";
import { isAlive } from "../support/proc.ts";
import { blockOf, blocksOf } from "../support/documentation.ts";
import { pathWith, provide, root, run } from "../support/package.ts";
import { freePort } from "../support/port.ts";
import { pidOnLine, startProgram, temporaryFolder } from "../support/program.ts";
import { startJsr, startNpm } from "../support/registries.ts";
import { oneOfEachKind, type Runtime, runtimes } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";

type Kind = Runtime["kind"];

/** Where the commands of the documentation find the package. */
const registries = mkdtempSync(join(tmpdir(), "reload-self-registries-"));
let env: Record<string, string | undefined>;
let close: () => void;

before(async () => {
  const dist = join(registries, "dist");
  const jsr = await startJsr(dist, await build(dist));
  const npm = await startNpm(dist, registries);
  close = () => [jsr, npm].forEach((registry) => registry.close());
  env = {
    PATH: pathWith(registries, { node: pinned.node26, bun: pinned.bun, deno: pinned.deno }),
    JSR_URL: jsr.url,
    NPM_CONFIG_REGISTRY: npm.url,
    npm_config_cache: join(registries, "npm"),
    BUN_INSTALL_CACHE_DIR: join(registries, "bun"),
    DENO_DIR: join(registries, "deno"),
    DENO_NO_UPDATE_CHECK: "1",
    DENO_NO_PACKAGE_JSON: undefined,
  };
});
after(() => {
  close();
  rmSync(registries, { recursive: true, force: true });
});

/** The programs of the documentation: in which file, under which heading, for which runtimes. */
const programs: [file: string, heading: string, kinds: readonly Kind[]][] = [
  ["docs/getting-started.md", "## A program", ["deno", "bun", "node"]],
  ["docs/servers.md", "## Deno.serve", ["deno"]],
  ["docs/servers.md", "## Bun.serve", ["bun"]],
  ["docs/zh/servers.md", "## Deno.serve", ["deno"]],
  ["docs/zh/servers.md", "## Bun.serve", ["bun"]],
];

for (const [name, heading, kinds] of programs) {
  for (const kind of kinds) {
    const runtime = runtimes.findLast((runtime) => runtime.kind === kind) as Runtime;
    test(
      `${name}, ${heading}: on ${kind}`,
      { skip: runtime === undefined && "not asked for" },
      async (t) => {
        const [code, commands = ""] = (["ts", "sh"] as const).map((language) =>
          blockOf(name, heading, language)
        );
        const starts = commands.split("\n").find((line) =>
          line.startsWith(`${kind} `) && line.endsWith(" main.ts")
        );
        assert.ok(
          code !== undefined && starts !== undefined,
          "there is a program and a command to start it",
        );
        const folder = temporaryFolder(t);
        const port = await freePort();
        writeFileSync(join(folder, "main.ts"), code.replace("8000", String(port)));
        // A line of the documentation installs the library; Deno needs none where the program names
        // JSR itself.
        const manager = kind === "node" ? "npm" : kind;
        const installs = blockOf("docs/getting-started.md", "## Install", "sh")?.split("\n").find((
          line,
        ) => line.startsWith(`${manager} `));
        assert.ok(installs !== undefined, "there is a command to install the library");
        if (!code.includes("jsr:")) {
          await run("/bin/sh", ["-c", installs], { cwd: folder, env: { ...process.env, ...env } });
        }
        const program = startProgram(t, runtime, {
          command: ["/bin/sh", "-c", `exec ${starts}`],
          cwd: folder,
          env,
        });
        const pid = await pidOnLine(program, /generation 0/);
        program.signal(pid);
        const next = await pidOnLine(program, /^pid \d+, generation 1/);
        await until("the old process to be gone", () => !isAlive(pid));
        assert.equal(
          await (await fetch(`http://localhost:${port}/`)).text(),
          `pid ${next}, generation 1\n`,
        );
        program.signal(next, "SIGTERM");
        await until("the new process to be gone", () => program.pids().length === 0);
        assert.deepEqual(program.lines.filter((line) => /error|failed/i.test(line)), []);
      },
    );
  }
}

for (
  const [name, heading] of [["docs/servers.md", "## A module that only exports fetch"], [
    "docs/zh/servers.md",
    "## 只导出 fetch 的模块",
  ]] as const
) {
  const runtime = runtimes.find(({ kind }) => kind === "deno") as Runtime;
  test(`${name}, ${heading}`, { skip: runtime === undefined && "not asked for" }, async (t) => {
    const folder = temporaryFolder(t);
    const port = await freePort();
    writeFileSync(join(folder, "app.ts"), blockOf(name, heading, "ts") as string);
    const command = ["/bin/sh", "-c", `exec ${blockOf(name, heading, "sh")}`];
    const program = startProgram(t, runtime, {
      command,
      cwd: folder,
      env: { ...env, PORT: String(port) },
    });
    const pid = Number(
      /\(pid (\d+)\)/.exec(await program.line(/^Listening on .* \(pid \d+\)$/))?.[1],
    );
    program.signal(pid);
    await program.line(/^Listening on .* \(pid \d+, generation 1\)$/);
    await until("the old process to be gone", () => !isAlive(pid));
    const url = `http://localhost:${port}/path`;
    assert.equal(await (await fetch(url)).text(), `you asked for ${url}\n`);
  });
}

test("every command of the documentation is run by a test", () => {
  const linesOf = (text: string) =>
    text.trim().split("\n").map((line) => line.replace(/ +#.*/, ""));
  const linesBelow = (name: string, heading: string) =>
    linesOf(blockOf(name, heading, "sh") as string);
  const known = [
    ...linesBelow("docs/getting-started.md", "## Install"),
    ...["## Install", "## No code", "## One line"].flatMap((heading) =>
      linesBelow("README.md", heading)
    ), // readme.test.ts
    ...programs.flatMap(([name, heading]) => linesBelow(name, heading)),
    ...linesBelow("docs/servers.md", "## A module that only exports fetch"),
    // containers.test.ts, as far as it goes without an engine.
    "docker kill --signal HUP my-container",
    "npm ci", // .ci/run
    // tests/frameworks, with other names.
    "node --import @js0/reload-self/auto server.js",
    "bun --preload @js0/reload-self/auto server.ts",
    "deno run -A --preload npm:@js0/reload-self/auto server.ts",
    "npx reload-self run --auto -- npm start",
    "reload-self run --socket 8000 -- node server.ts", // socket.test.ts
    "npm run demo", // demo.test.ts
  ];
  const files = globSync("{README*.md,CONTRIBUTING.md,docs/**/*.md,examples/**/*.md}", {
    cwd: root,
  });
  const unknown = files.flatMap((file) =>
    blocksOf(file, "sh").flatMap(linesOf)
      .filter((line) => !known.includes(line))
      .map((line) => `${file}: ${line}`)
  );
  assert.deepEqual(unknown, []);
});

/** Starts a program of docs/connections.md. `reload` waits until its connections have moved. */
async function startConnections(t: TestContext, runtime: Runtime, heading: string) {
  const folder = await installed(t);
  const port = await freePort();
  const report = `\nconsole.log(\`pid \${process.pid}, generation \${token.generation}\`);\n`;
  const code = blockOf("docs/connections.md", heading, "ts")?.replace("8000", String(port));
  assert.ok(code !== undefined, "there is a program");
  writeFileSync(
    join(folder, "main.ts"),
    `import process from "node:process";\n${code.replace(/^import process.*$/m, "")}${report}`,
  );
  const program = startProgram(t, runtime, {
    script: join(folder, "main.ts"),
    cwd: folder,
    env: { DENO_NO_PACKAGE_JSON: undefined },
  });
  const pidOf = (generation: number) =>
    pidOnLine(program, new RegExp(`^pid \\d+, generation ${generation}`));
  const first = await pidOf(0);
  async function reload(): Promise<number> {
    program.signal(first);
    const next = await pidOf(1);
    await until("the old process to be gone", () => !isAlive(first));
    return next;
  }
  return { port, first, reload };
}

for (const runtime of oneOfEachKind) {
  test(`docs/connections.md, node:net: on ${runtime.kind}`, async (t) => {
    const { port, first, reload } = await startConnections(
      t,
      runtime,
      "## Connections of node:net",
    );
    const socket = connect(port, "127.0.0.1");
    cleanUp(t, () => void socket.destroy());
    let text = "";
    socket.on("data", (data) => text += data);
    socket.write("12345");
    await until("the answer", () => text === `5 bytes, says ${first}\n`);
    const next = await reload();
    socket.write("678");
    await until(
      "the second answer",
      () => text === `5 bytes, says ${first}\n8 bytes, says ${next}\n`,
    );
  });
}

for (const runtime of oneOfEachKind.filter(({ kind }) => kind !== "bun")) {
  test(`docs/connections.md, ws: on ${runtime.kind}`, async (t) => {
    const { port, reload } = await startConnections(t, runtime, "## WebSockets");
    const socket = new WebSocket(`ws://127.0.0.1:${port}/Ann`);
    cleanUp(t, () => socket.close());
    const heard: string[] = [];
    socket.onmessage = ({ data }) => heard.push(data);
    await new Promise((resolve) => socket.onopen = resolve);
    socket.send("one");
    await until("the message", () => heard.length === 1);
    await reload();
    socket.send("two");
    await until("the second message", () => heard.length === 2);
    assert.deepEqual(heard, ["Ann: one", "Ann: two"]);
  });
}

/** A folder with the library in its node_modules, as it is published, and with ws. */
async function installed(t: TestContext): Promise<string> {
  const folder = temporaryFolder(t);
  await provide(folder, "ws");
  return folder;
}
