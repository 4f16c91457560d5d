/** Deno with a restricted set of permissions, and Node's permission model. */
import assert from "node:assert/strict";
import { symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test, type TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import { freePort } from "../../support/port.ts";
import { type Program, startProgram, temporaryFolder } from "../../support/program.ts";
import { type Runtime, runtimes } from "../../support/runtimes.ts";

const root = dirname(fileURLToPath(new URL("../../../mod.ts", import.meta.url)));
const deno = runtimes.find(({ kind }) => kind === "deno") as Runtime;
const skip = deno === undefined && "not asked for";

/**
 * Every permission, what it is worth for one value that some sets allow, and whether it is only
 * partly given.
 */
const asked = `
const values = { read: { path: "/etc/hostname" }, write: { path: "/tmp/x" }, net: { host: "localhost:8000" }, env: { variable: "HOME" },
  sys: { kind: "hostname" }, run: { command: "ls" }, ffi: { path: "/lib/x.so" }, import: { host: "example.com:443" } };
const permissions = Object.entries(values).map(([name, value]) => {
  const { state, partial } = Deno.permissions.querySync({ name });
  return [name, state, partial, Deno.permissions.querySync({ name, ...value }).state].join(" ");
});`;

function script(t: TestContext): string {
  const path = join(temporaryFolder(t), "program.ts");
  writeFileSync(
    path,
    `import { listen } from ${JSON.stringify(root + "/mod.ts")};
${asked}
const token = listen({ onEvent(event) { report(event.type, { error: event.error && { code: event.error.code, message: event.error.message } }); } });
function report(type: string, fields: object) {
  console.log(JSON.stringify({ type, pid: Deno.pid, generation: token.generation, ...fields }));
}
report("start", { permissions, args: Deno.args });
await token.cancelled();
`,
  );
  return path;
}

function start(
  t: TestContext,
  flags: string[],
  env: Record<string, string | undefined> = {},
): Program {
  return startProgram(t, deno, {
    flags: ["run", "--quiet", ...flags],
    script: script(t),
    args: ["an arg"],
    env,
  });
}

const run = `--allow-run=${deno?.executable}`;
const sets: [what: string, flags: string[]][] = [
  ["the least", ["--allow-env", run]],
  ["some values of each", [
    "--allow-env",
    run,
    "--allow-read=/etc",
    "--allow-net=localhost",
    "--allow-write=/tmp",
    "--allow-sys=hostname",
  ]],
  ["short flags, a list of programs", ["-E", `${run},ls`, "-R", "-N"]],
  ["some denied", [
    "--allow-env",
    run,
    "--allow-read",
    "--deny-read=/etc",
    "--deny-net",
    "--deny-import",
  ]],
  ["all but one", ["--allow-all", "--deny-write=/etc"]],
  ["all, one by one", [
    "-R",
    "-W",
    "-N",
    "-E",
    "-S",
    "--allow-run",
    "--allow-ffi",
    "--allow-import",
  ]],
  ["no prompt", ["--no-prompt", "--allow-env", run]],
];
for (const [what, flags] of sets) {
  test(`deno: the new process has the same permissions: ${what}`, { skip }, async (t) => {
    const program = start(t, flags);
    const first = await program.report("start");
    program.signal(first);
    await program.report("in-charge", { generation: 1 });
    const second = await program.report("start", { generation: 1 });
    program.signal(second);
    const third = await program.report("start", { generation: 2 });
    await program.report("in-charge", { generation: 2 });
    for (const { permissions, args } of [second, third]) {
      assert.deepEqual(permissions, first.permissions);
      assert.deepEqual(args, ["an arg"]);
    }
    assert.equal(new Set(first.permissions).size, 8);
  });
}

test("deno: --allow-run=deno, where deno is a link on the search path", { skip }, async (t) => {
  const folder = temporaryFolder(t);
  symlinkSync(deno.executable, join(folder, "deno"));
  const flags = ["run", "--quiet", "--allow-env", "--allow-run=deno", script(t)];
  const program = startProgram(t, deno, {
    command: ["/bin/sh", "-c", `exec deno "$@"`, "sh", ...flags],
    env: { PATH: `${folder}:${process.env.PATH}` },
  });
  program.signal(await program.report("start"));
  await program.report("in-charge", { generation: 1 });
});

const missing: [what: string, flags: string[], env: Record<string, string>, message: RegExp][] = [
  ["nothing", [], {}, /add --allow-run=\S+deno --allow-env/],
  ["no --allow-run", ["--allow-env"], {}, /add --allow-run=\S+deno$/],
  ["another program", ["--allow-env", "--allow-run=ls"], {}, /add --allow-run=\S+deno$/],
  ["no --allow-env", [run], {}, /add --allow-env$/],
  ["some of --allow-env", [run, "--allow-env=HOME"], {}, /add --allow-env$/],
  [
    "a list, and LD_LIBRARY_PATH",
    [run, "--allow-env"],
    { LD_LIBRARY_PATH: "/nowhere" },
    /add --allow-run \(without a list\), or unset LD_LIBRARY_PATH/,
  ],
];
for (const [what, flags, env, message] of missing) {
  test(`deno: a missing permission is named: ${what}`, { skip }, async (t) => {
    const program = start(t, flags, env);
    const first = await program.report("start");
    program.signal(first);
    const { error } = await program.report("reload-fail");
    assert.equal(error.code, "permission");
    assert.match(error.message, message);
    assert.match(await program.line(/reload failed/), /goes on unchanged/);
    assert.deepEqual(program.pids(), [first.pid]);
  });
}

/** A program with a server of Deno.serve, and these permissions besides those for a reload. */
function startServing(t: TestContext, port: number, flags: string[]): Program {
  const path = join(temporaryFolder(t), "server.ts");
  writeFileSync(
    path,
    `import { listen } from ${JSON.stringify(root + "/mod.ts")};
const token = listen({ onEvent: ({ type, message }) => report(type, message) });
const report = (type: string, message?: string) =>
  console.log(JSON.stringify({ type, message, pid: Deno.pid, generation: token.generation }));
const serve = token.adopt(Deno.serve);
serve({ port: ${port}, onListen() {} }, () => new Response(String(token.generation)));
report("serving");`,
  );
  return startProgram(t, deno, {
    flags: ["run", "--quiet", "--allow-env", run, ...flags],
    script: path,
  });
}
const generationAt = async (port: number) =>
  await (await fetch(`http://127.0.0.1:${port}/`)).text();

test(
  "deno: a server that may listen at its own port and on the loopback interface",
  { skip },
  async (t) => {
    const port = await freePort();
    const allowed = `--allow-net=0.0.0.0:${port},127.0.0.1`;
    const program = startServing(t, port, ["--allow-ffi", allowed]);
    program.signal(await program.report("serving"));
    await program.report("reload-end");
    assert.equal(await generationAt(port), "1");
    assert.deepEqual(program.reports.filter(({ type }) => type === "warning"), []);
  },
);

for (
  const [what, flags, message] of [
    ["no --allow-ffi", ["--allow-net"], /cannot be handed over because .* Add --allow-ffi/],
    ["its own port only", ["--allow-ffi"], /cannot be handed over: .* --allow-net=127\.0\.0\.1/],
  ] as const
) {
  test(
    `deno: a server that cannot be handed over goes on, and is told why: ${what}`,
    { skip },
    async (t) => {
      const port = await freePort();
      const net = what === "its own port only" ? [`--allow-net=0.0.0.0:${port}`] : [];
      const program = startServing(t, port, [...flags, ...net]);
      program.signal(await program.report("serving"));
      await program.report("reload-fail");
      assert.match((await program.report("warning")).message, message);
      assert.equal(await generationAt(port), "0");
    },
  );
}

test("deno: nothing is asked on a terminal", { skip }, async (t) => {
  // script(1) gives the program a terminal; a question would wait for an answer there for ever.
  const command = [deno.executable, "run", script(t)].map((part) => `'${part}'`).join(" ");
  const program = startProgram(t, deno, {
    command: ["script", "--quiet", "--return", "--command", command, "/dev/null"],
    stdin: "pipe",
  });
  const first = await program.report("start");
  program.signal(first);
  assert.equal((await program.report("reload-fail")).error.code, "permission");
});

test("deno: a title set before the library is loaded is told, and with `command` it works", {
  skip,
}, async (t) => {
  const folder = temporaryFolder(t);
  writeFileSync(
    join(folder, "title.ts"),
    `import process from "node:process"; process.title = "my server";`,
  );
  const path = join(folder, "program.ts");
  const write = (options: string) =>
    writeFileSync(
      path,
      `import "./title.ts"; import { listen } from ${JSON.stringify(root + "/mod.ts")};
const token = listen(${options});
console.log(JSON.stringify({ type: "start", pid: Deno.pid, generation: token.generation }));
await token.cancelled();`,
    );
  write("");
  const flags = ["run", "--quiet", "--allow-all"];
  const failing = startProgram(t, deno, { flags, script: path });
  failing.signal(await failing.report("start"));
  assert.match(await failing.line(/reload failed/), /process\.title overwrote it\. Set it after/);
  write(`{ command: ${JSON.stringify([deno.executable, ...flags, path])} }`);
  const working = startProgram(t, deno, { flags, script: path });
  working.signal(await working.report("start"));
  await working.report("start", { generation: 1 });
});

for (const runtime of runtimes.filter(({ name }) => name === "node24" || name === "node26")) {
  test(`${runtime.name}: the permission model`, async (t) => {
    const flags = ["--permission", `--allow-fs-read=${root}`, "--allow-fs-read=/tmp"];
    const without = startProgram(t, runtime, { flags });
    without.signal(await without.report("start"));
    const { error } = await without.report("reload-fail");
    assert.equal(error.code, "permission");
    assert.match(error.message, /add --allow-child-process/);
    const granted = startProgram(t, runtime, { flags: [...flags, "--allow-child-process"] });
    granted.signal(await granted.report("start"));
    await granted.report("in-charge", { generation: 1 });
    const second = await granted.report("start", { generation: 1 });
    assert.equal(second.cwd, process.cwd());
  });
}
