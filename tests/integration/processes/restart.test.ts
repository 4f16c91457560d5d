/** The new process starts exactly as the operator started the first one. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { test, type TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import { commandLineOf, descriptorsOf } from "../../support/proc.ts";
import {
  fixture,
  type Program,
  type Report,
  startProgram,
  temporaryFolder,
} from "../../support/program.ts";
import { type Runtime, runtimes } from "../../support/runtimes.ts";
import { until } from "../../support/wait.ts";

const library = fileURLToPath(new URL("../../../mod.ts", import.meta.url));
const awkward = [
  "two words",
  "",
  "'single' \"double\"",
  "line\nbreak",
  "\\back\\slash",
  "$HOME `id` *",
  "日本語 😀",
  "--flag=x y",
  "-",
];

/** Reloads twice, and returns what the three generations reported. */
async function threeGenerations(
  program: Program,
  change: () => void = () => {},
): Promise<[Report, Report, Report]> {
  const first = await program.report("start");
  change();
  program.signal(first);
  const second = await program.report("start", { generation: 1 });
  await program.report("in-charge", { generation: 1 });
  program.signal(second);
  const third = await program.report("start", { generation: 2 });
  await program.report("in-charge", { generation: 2 });
  return [first, second, third];
}

/** A program that reports what the expression gives, and waits. */
function tiny(expression: string): string {
  return `import { listen } from ${JSON.stringify(library)};
const token = listen({ onEvent: (event) => report(event.type) });
function report(type, value) {
  console.log(JSON.stringify({ type, pid: globalThis.Deno?.pid ?? process.pid, generation: token.generation, value }));
}
await token.inheritedState; // The whole library is loaded.
report("start", ${expression});
const stay = setInterval(() => {}, 1000);
await token.cancelled();
clearInterval(stay);
`;
}

/** The program in a file of its own, with the package.json that makes Node take it for a module. */
function writeTiny(
  t: TestContext,
  expression: string,
  folder: string = temporaryFolder(t),
): string {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "package.json"), `{"type":"module"}`);
  writeFileSync(join(folder, "tiny.ts"), tiny(expression));
  return join(folder, "tiny.ts");
}

/** Changes a program's text; what is to be changed must be there. */
function edit(path: string, from: string | RegExp, to: string): void {
  const before = readFileSync(path, "utf8");
  const after = before.replace(from, () => to);
  assert.notEqual(after, before, `${from} is not in ${path}`);
  writeFileSync(path, after);
}

/** A fresh copy of a file, put in the place of another at once, as installers do. */
function replace(path: string, make: (temporary: string) => void): void {
  make(`${path}.new`);
  renameSync(`${path}.new`, path);
}

for (const runtime of runtimes) {
  const { kind, name, executable, flags } = runtime;
  const deno = (...flags: string[]) => ["run", "--quiet", "--allow-all", ...flags];

  test(`${name}: arguments, flags, name, working directory, stdin, stdout, stderr`, async (t) => {
    const program = startProgram(t, runtime, {
      args: awkward,
      cwd: dirname(library),
      stdin: "pipe",
    });
    const outputs = (pid: number) => [1, 2].map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`));
    const expected = outputs((await program.report("start")).pid);
    const generations = await threeGenerations(program);
    for (const { args, cwd } of generations) {
      assert.deepEqual(args, awkward);
      assert.equal(cwd, dirname(library));
    }
    assert.deepEqual(commandLineOf(generations[2].pid), program.process.spawnargs);
    const { pid } = generations[2];
    assert.equal(readlinkSync(`/proc/${pid}/fd/0`), "/dev/null", "stdin is closed");
    assert.deepEqual(outputs(pid), expected);
  });

  test(`${name}: a relative script, and a title set before listen()`, async (t) => {
    const script = writeTiny(t, `(process.title = "my server", process.argv.slice(2))`);
    edit(script, "const token", `process.title = "my server";\nconst token`);
    const program = startProgram(t, runtime, {
      cwd: dirname(script),
      script: "./tiny.ts",
      args: ["a b"],
    });
    for (const { value } of await threeGenerations(program)) assert.deepEqual(value, ["a b"]);
  });

  const flagRows: [
    what: string,
    flags: (folder: string) => string[],
    expression: string,
    expected: unknown,
  ][] = kind === "node"
    ? [
      ["--max-old-space-size", () => ["--max-old-space-size=300"], heapLimit(), true],
      [
        "--import",
        (folder) => ["--import", `${folder}/preload.mjs`],
        "globalThis.preloaded",
        "yes",
      ],
      ["--env-file", (folder) => [`--env-file=${folder}/variables`], "process.env.FROM_FILE", "1"],
      ["--title", () => ["--title=my server"], "process.title", "my server"],
    ]
    : kind === "bun"
    ? [
      ["--smol", () => ["--smol"], `process.execArgv.includes("--smol")`, true],
      [
        "--preload",
        (folder) => ["--preload", `${folder}/preload.mjs`],
        "globalThis.preloaded",
        "yes",
      ],
      ["--env-file", (folder) => [`--env-file=${folder}/variables`], "process.env.FROM_FILE", "1"],
      ["bun run", () => ["run", "--no-install"], "process.argv.length", 2],
    ]
    : [
      ["--v8-flags", () => deno("--v8-flags=--max-old-space-size=300"), heapLimit(), true],
      [
        "--preload",
        (folder) => deno("--preload", `${folder}/preload.mjs`),
        "globalThis.preloaded",
        "yes",
      ],
      [
        "--env-file",
        (folder) => deno(`--env-file=${folder}/variables`),
        "process.env.FROM_FILE",
        "1",
      ],
      [
        "--config",
        (folder) => deno("--config", `${folder}/other.json`),
        `(await import("alias")).preloaded`,
        "yes",
      ],
      ["--unstable-net", () => deno("--unstable-net"), "typeof Deno.listenDatagram", "function"],
    ];
  for (const [what, flags, expression, expected] of flagRows) {
    test(`${name}: ${what}`, async (t) => {
      const folder = temporaryFolder(t);
      writeFileSync(
        join(folder, "preload.mjs"),
        `globalThis.preloaded = "yes"; export const preloaded = "yes";`,
      );
      writeFileSync(join(folder, "variables"), "FROM_FILE=1\n");
      writeFileSync(join(folder, "other.json"), `{"imports":{"alias":"./preload.mjs"}}`);
      const program = startProgram(t, runtime, {
        flags: flags(folder),
        script: writeTiny(t, expression, folder),
      });
      for (const { value } of await threeGenerations(program)) assert.equal(value, expected);
    });
  }

  test(`${name}: an env file that was changed is read anew, also where a runtime reads it unasked`, async (t) => {
    const folder = temporaryFolder(t);
    const file = join(folder, ".env");
    const fromFile =
      { node: [`--env-file=${file}`], bun: [], deno: deno(`--env-file=${file}`) }[kind];
    const script = writeTiny(t, "[process.env.FROM_FILE, process.env.TYPED]", folder);
    writeFileSync(file, "FROM_FILE=old\nTYPED=file\n");
    const program = startProgram(t, runtime, {
      flags: fromFile,
      script,
      cwd: folder,
      env: { TYPED: "operator" },
    });
    const [first, second, third] = await threeGenerations(
      program,
      () => writeFileSync(file, "FROM_FILE=new\nTYPED=file\n"),
    );
    assert.deepEqual([first, second, third].map(({ value }) => value[0]), ["old", "new", "new"]);
    assert.deepEqual([first, second, third].map(({ value }) => value[1]), [
      "operator",
      "operator",
      "operator",
    ]);
  });

  test(`${name}: a variable changed or removed at run time stays so; \`env\` comes on top`, async (t) => {
    const script = writeTiny(
      t,
      `[process.env.ADDED, process.env.REMOVED, process.env.OPTION, process.env.UNSET, process.env.RELOAD_SELF]`,
    );
    const change =
      `process.env.ADDED = (process.env.ADDED ?? "") + "x"; delete process.env.REMOVED;\n`;
    const options = `listen({ env: { OPTION: "set", UNSET: undefined }, `;
    edit(script, "listen({ ", options);
    edit(script, "const stay", `${change}const stay`);
    const program = startProgram(t, runtime, { script, env: { REMOVED: "here", UNSET: "here" } });
    const values = (await threeGenerations(program)).map(({ value }) => value);
    assert.deepEqual(values, [
      [null, "here", null, "here", null],
      ["x", null, "set", null, null],
      ["xx", null, "set", null, null],
    ]);
  });

  test(`${name}: a program that has a channel to its supervisor already keeps it to itself`, async (t) => {
    const program = startProgram(t, runtime, { ipc: true });
    const messages: unknown[] = [];
    program.process.on("message", (message) => messages.push(message));
    const [first, second] = await threeGenerations(program);
    assert.deepEqual([first.send, second.send], ["function", "undefined"]);
    assert.deepEqual(messages, []);
  });

  test(`${name}: a program given on the command line`, async (t) => {
    const code = tiny("process.argv.at(-1)");
    const flags =
      { node: ["--input-type=module", "-e"], bun: ["-e"], deno: ["eval", "--quiet"] }[kind];
    const program = startProgram(t, runtime, {
      command: [executable, ...flags, code, "an argument"],
    });
    for (const { value } of await threeGenerations(program)) assert.equal(value, "an argument");
  });

  test(`${name}: a replaced executable is started as it is on disk then`, async (t) => {
    const folder = temporaryFolder(t);
    const copy = join(folder, "runtime");
    copyFileSync(executable, copy);
    const script = writeTiny(t, "process.env.REPLACED", folder);
    const program = startProgram(t, runtime, { command: [copy, ...flags, script] });
    const [first, second] = await threeGenerations(program, () => {
      replace(copy, (path) => {
        writeFileSync(path, `#!/bin/sh\nREPLACED=yes exec '${executable}' "$@"\n`);
        chmodSync(path, 0o755);
      });
    });
    assert.deepEqual([first.value, second.value], [undefined, "yes"]);
  });

  test(`${name}: an executable found through a link on the search path, which is flipped`, async (t) => {
    const folder = temporaryFolder(t);
    symlinkSync(executable, join(folder, "runtime"));
    const script = writeTiny(t, "process.env.REPLACED", folder);
    const program = startProgram(t, runtime, {
      command: ["/bin/sh", "-c", `exec runtime "$@"`, "sh", ...flags, script],
      env: { PATH: `${folder}:${process.env.PATH}` },
    });
    const [first, second] = await threeGenerations(program, () => {
      replace(join(folder, "runtime"), (path) => {
        writeFileSync(path, `#!/bin/sh\nREPLACED=yes exec '${executable}' "$@"\n`);
        chmodSync(path, 0o755);
      });
    });
    assert.deepEqual([first.value, second.value], [undefined, "yes"]);
  });

  test(`${name}: a flipped release link`, async (t) => {
    const folder = temporaryFolder(t);
    for (const release of ["1", "2"]) {
      writeTiny(t, JSON.stringify(release), join(folder, "releases", release));
    }
    const current = join(folder, "current");
    symlinkSync("releases/1", current);
    const program = startProgram(t, runtime, {
      command: ["/bin/sh", "-c", `cd "$0" && exec "$@"`, current, executable, ...flags, "tiny.ts"],
    });
    const [first, second, third] = await threeGenerations(program, () => {
      replace(current, (path) => symlinkSync("releases/2", path));
      rmSync(join(folder, "releases", "1"), { recursive: true });
    });
    assert.deepEqual([first.value, second.value, third.value], ["1", "2", "2"]);
  });

  test(`${name}: a command of one's own instead`, async (t) => {
    const options = { command: [executable, ...flags, fixture("program.ts"), "other"] };
    const program = startProgram(t, runtime, {
      args: ["typed"],
      env: { OPTIONS: JSON.stringify(options) },
    });
    const [first, second, third] = await threeGenerations(program);
    assert.deepEqual([first, second, third].map(({ args }) => args), [["typed"], ["other"], [
      "other",
    ]]);
  });

  for (
    const [what, file, message] of [
      [
        "that does not exist",
        "/nowhere/app",
        /\/nowhere\/app.* cannot be started: there is no such executable/,
      ],
      ["that is not executable", library, /mod\.ts.* cannot be started: it is not executable/],
    ] as const
  ) {
    test(`${name}: a command ${what}`, async (t) => {
      const program = startProgram(t, runtime, {
        env: { OPTIONS: JSON.stringify({ command: [file] }) },
      });
      const old = await program.report("start");
      program.signal(old);
      const { error } = await program.report("reload-fail");
      assert.equal(error.code, "start");
      assert.match(error.message, message);
      const before = descriptorsOf(old.pid).length;
      for (let count = 2; count <= 5; count++) {
        program.signal(old);
        await until(
          "the next failure",
          () => program.reports.filter(({ type }) => type === "reload-fail").length === count,
        );
      }
      await until("everything to be closed", () => descriptorsOf(old.pid).length <= before);
      assert.deepEqual(program.pids(), [old.pid]);
    });
  }

  test(`${name}: no file descriptors left`, async (t) => {
    const script = writeTiny(t, "1");
    const hoard = `const { openSync } = await import("node:fs");
const held = []; try { for (;;) held.push(openSync("/dev/null")); } catch {}
report("full", held.length);
process.on("SIGUSR2", async () => { const { closeSync } = await import("node:fs"); held.forEach((fd) => closeSync(fd)); report("free"); });
`;
    edit(script, "const stay", `if (process.env.HOARD) { ${hoard} }\nconst stay`);
    const program = startProgram(t, runtime, {
      command: ["/bin/sh", "-c", `ulimit -n 100; exec "$@"`, "sh", executable, ...flags, script],
      env: { HOARD: "1" },
    });
    const { pid } = await program.report("full");
    program.signal(pid);
    await program.report("reload-fail");
    program.signal(pid, "SIGUSR2");
    await program.report("free");
    const line = await program.line(/reload failed/);
    assert.match(line, new RegExp(`Process ${pid} goes on unchanged`));
    assert.deepEqual(program.pids(), [pid]);
  });
}

const [node] = runtimes.filter(({ kind }) => kind === "node");
const [bun] = runtimes.filter(({ kind }) => kind === "bun");
const [deno] = runtimes.filter(({ kind }) => kind === "deno");

test("node --watch: a new process does not report to the watcher, which is not its parent", {
  skip: node === undefined && "not asked for",
}, async (t) => {
  const { flags } = node as Runtime;
  const generations = await threeGenerations(
    startProgram(t, node as Runtime, { flags: [...flags, "--watch"] }),
  );
  assert.equal(new Set(generations.map(({ pid }) => pid)).size, generations.length);
});

test("bun build --compile", { skip: bun === undefined && "not asked for" }, async (t) => {
  const runtime = bun as Runtime;
  const script = writeTiny(t, "process.argv.slice(2)");
  const binary = join(dirname(script), "app");
  const build = (file: string) =>
    execFileSync(runtime.executable, ["build", "--compile", script, "--outfile", file], {
      stdio: "pipe",
    });
  build(binary);
  const program = startProgram(t, runtime, { command: [binary, ...awkward] });
  const [first, second, third] = await threeGenerations(program, () => {
    edit(script, "process.argv.slice(2)", `["new", ...process.argv.slice(2)]`);
    replace(binary, build);
  });
  assert.deepEqual([first, second, third].map(({ value }) => value), [
    awkward,
    ["new", ...awkward],
    ["new", ...awkward],
  ]);
});

test(
  "node: a single executable application",
  { skip: node === undefined && "not asked for" },
  async (t) => {
    // The library as one CommonJS file, because that is what a single executable holds.
    const runtime = runtimes.find(({ name }) => name === "node26") ?? node as Runtime;
    const [bundler] = runtimes.filter(({ kind }) => kind === "bun");
    if (bundler === undefined || runtime.name !== "node26") {
      return t.skip(
        "needs node26, and bun to bundle",
      );
    }
    const folder = temporaryFolder(t);
    const script = writeTiny(t, "process.argv.slice(2)", folder);
    edit(script, /await token\.inheritedState;.*\n/, "");
    edit(
      script,
      "await token.cancelled();\nclearInterval(stay);",
      "token.cancelled().then(() => clearInterval(stay));",
    );
    execFileSync(bundler.executable, [
      "build",
      script,
      "--target=node",
      "--format=cjs",
      "--outfile",
      join(folder, "app.cjs"),
    ], {
      stdio: "pipe",
    });
    writeFileSync(
      join(folder, "sea.json"),
      JSON.stringify({ main: "app.cjs", output: "app", disableExperimentalSEAWarning: true }),
    );
    execFileSync(runtime.executable, ["--build-sea", "sea.json"], { cwd: folder, stdio: "pipe" });
    const program = startProgram(t, runtime, { command: [join(folder, "app"), ...awkward] });
    for (const { value } of await threeGenerations(program)) assert.deepEqual(value, awkward);
  },
);

test("deno serve", { skip: deno === undefined && "not asked for" }, async (t) => {
  const script = writeTiny(t, "Deno.args");
  // The new process binds after the old one let go, until sockets are handed over; port 0 gives
  // each its own.
  edit(script, /const stay[^]*/, "export default { fetch: () => new Response('hello') };");
  const program = startProgram(t, deno as Runtime, {
    flags: ["serve", "--quiet", "--allow-all", "--port=0"],
    script,
    args: awkward,
  });
  const generations = await threeGenerations(program);
  for (const { value, pid } of generations) {
    assert.deepEqual(value, awkward);
    assert.ok(commandLineOf(pid).includes("serve"));
  }
});

test("deno task", { skip: deno === undefined && "not asked for" }, async (t) => {
  const runtime = deno as Runtime;
  const script = writeTiny(t, "Deno.args");
  writeFileSync(
    join(dirname(script), "deno.json"),
    JSON.stringify({ tasks: { start: `deno run -A tiny.ts 'a b' ''` } }),
  );
  const program = startProgram(t, runtime, {
    command: [runtime.executable, "task", "--quiet", "start", "c d"],
    cwd: dirname(script),
    env: { PATH: `${dirname(runtime.executable)}:${process.env.PATH}` },
  });
  for (const { value } of await threeGenerations(program)) {
    assert.deepEqual(value, ["a b", "", "c d"]);
  }
});

function heapLimit(): string {
  return `(await import("node:v8")).getHeapStatistics().heap_size_limit < 1000 * 2 ** 20`;
}
