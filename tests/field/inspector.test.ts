/** A program with a debugger is reloaded: the old process has the port until it ends. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { withFreeInspector } from "../../adapters/shared/inspector.ts";
import { cleanUp, type TestScope } from "../support/clean_up.ts";
import { freePort } from "../support/port.ts";
import { commandLineOf, hasVariable } from "../support/proc.ts";
import { fixture, type Program, startProgram } from "../support/program.ts";
import { type Runtime, runtimes } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";

/** The addresses of debuggers that were written so far. */
const addresses = ({ lines }: Program) =>
  lines.flatMap((line) => /wss?:\/\/\S+/.exec(line)?.[0] ?? []);

/** A debugger that is attached. */
async function attach(
  t: TestScope,
  url: string,
): Promise<(method: string, params?: object) => Promise<Record<string, unknown>>> {
  const socket = new WebSocket(url);
  cleanUp(t, () => socket.close());
  const waiting = new Map<number, (result: Record<string, unknown>) => void>();
  socket.onmessage = ({ data }) => {
    const { id, result, method } = JSON.parse(String(data));
    if (method === "Debugger.paused") ask("Debugger.resume"); // Before the first line.
    waiting.get(id)?.(result);
  };
  function ask(method: string, params: object = {}): Promise<Record<string, unknown>> {
    return new Promise((resolve) => {
      const id = waiting.size + 1;
      waiting.set(id, resolve);
      socket.send(JSON.stringify({ id, method, params }));
    });
  }
  await new Promise((resolve, reject) => {
    socket.onopen = resolve;
    socket.onerror = () => reject(new Error(`no debugger at ${url}`));
  });
  return ask;
}

/** The process that a debugger is attached to. */
async function processAt(t: TestScope, url: string): Promise<unknown> {
  const ask = await attach(t, url);
  const { result } = await ask("Runtime.evaluate", { expression: "process.pid" });
  return (result as { value: unknown }).value;
}

/** Lets a process go on that waits for a debugger. */
async function goOn(t: TestScope, runtime: Runtime, url: string): Promise<void> {
  const ask = await attach(t, url);
  if (runtime.kind === "bun") {
    return void ask("Inspector.enable").then(() => ask("Inspector.initialized"));
  }
  await ask("Runtime.enable");
  await ask("Debugger.enable");
  ask("Runtime.runIfWaitingForDebugger");
}

const forms: [what: string, option: (port: number) => string, waits?: boolean][] = [
  ["--inspect=host:port", (port) => `--inspect=127.0.0.1:${port}`],
  ["--inspect=port", (port) => `--inspect=${port}`],
  ["--inspect-brk", (port) => `--inspect-brk=127.0.0.1:${port}`, true],
  ["--inspect-wait", (port) => `--inspect-wait=127.0.0.1:${port}`, true],
];

for (const runtime of runtimes) {
  for (const [what, option, waits = false] of forms) {
    // Now and then Deno 2.9.6 does not go on when this test's debugger tells the first process to;
    // --inspect-wait has the same way here.
    if (what === "--inspect-brk" && runtime.kind === "deno") continue;
    test(`${runtime.name}: ${what}: the new process has a debugger on a port of its own, and waits for nobody`, async (t) => {
      const port = await freePort();
      // Deno would not say where the debugger is.
      const flags = runtime.flags.filter((flag) => flag !== "--quiet");
      const program = startProgram(t, runtime, {
        flags: [...flags, option(port)],
        args: ["--inspect=1"],
      });
      await until("the debugger", () => addresses(program).length > 0);
      assert.equal(new URL(addresses(program)[0] as string).port, String(port));
      if (waits) await goOn(t, runtime, addresses(program)[0] as string);
      let current = await program.report("start");
      for (const generation of [1, 2]) {
        const known = addresses(program).length;
        program.signal(current);
        current = await program.report("start", { generation });
        await program.report("reload-end", { generation });
        assert.deepEqual(
          current.args,
          ["--inspect=1"],
          "the program's own arguments are left alone",
        );
        const url = await until("its debugger", () => addresses(program)[known]);
        assert.notEqual(new URL(url).port, String(port));
        assert.equal(await processAt(t, url), current.pid);
      }
    });
  }
}

test("of the runtime's options, only the port changes, and whether it waits", () => {
  const free: Record<string, string> = {
    "--inspect": "--inspect=0",
    "--inspect-brk": "--inspect=0",
    "--inspect-wait=9229": "--inspect=0",
    "--inspect=localhost": "--inspect=localhost:0",
    "--inspect=[::1]:9229": "--inspect=[::1]:0",
    "--inspect=0.0.0.0:9229/path": "--inspect=0.0.0.0:0/path",
    "--inspect-port=9229": "--inspect-port=0",
    "--inspect=ws+unix:///run/x": "--inspect=0",
    "--inspect-publish-uid=http": "--inspect-publish-uid=http",
    "--import=./inspect.js": "--import=./inspect.js",
  };
  const own = ["main.ts", "--inspect", "--inspect-brk=9229"];
  assert.deepEqual(withFreeInspector([...Object.keys(free), ...own], 2), [
    ...Object.values(free),
    ...own,
  ]);
});

const variables: Record<string, [name: string, value: (port: number) => string][]> = {
  node: [[
    "NODE_OPTIONS",
    (port) => `--no-warnings --inspect=127.0.0.1:${port} --stack-trace-limit=20`,
  ]],
  bun: [["BUN_OPTIONS", (port) => `--inspect=127.0.0.1:${port}`]],
  deno: [],
};
for (const runtime of runtimes) {
  for (const [name, value] of variables[runtime.kind] ?? []) {
    test(`${runtime.name}: a debugger that ${name} asks for`, async (t) => {
      const port = await freePort();
      const program = startProgram(t, runtime, { env: { [name]: value(port) } });
      const first = await program.report("start");
      const known = await until("the debugger", () => addresses(program).length || undefined);
      program.signal(first);
      const second = await program.report("start", { generation: 1 });
      await program.report("reload-end");
      const url = await until("its debugger", () => addresses(program)[known]);
      assert.notEqual(new URL(url).port, String(port));
      assert.equal(await processAt(t, url), second.pid);
      assert.ok(commandLineOf(second.pid).includes(fixture("program.ts")));
    });
  }
}

const bun = runtimes.find(({ kind }) => kind === "bun");
test(
  "bun: a debugger that BUN_INSPECT asks for stays with the old process",
  { skip: bun === undefined && "not asked for" },
  async (t) => {
    const port = await freePort();
    const program = startProgram(t, bun as Runtime, {
      env: { BUN_INSPECT: `ws://127.0.0.1:${port}/debug` },
    });
    const first = await program.report("start");
    assert.equal(await processAt(t, `ws://127.0.0.1:${port}/debug`), first.pid);
    program.signal(first);
    const second = await program.report("start", { generation: 1 });
    await program.report("reload-end");
    assert.equal(hasVariable(second.pid, `BUN_INSPECT=ws://127.0.0.1:${port}/debug`), false);
  },
);
