import assert from "node:assert/strict";
import { once } from "node:events";
import { existsSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { describeTally, failureCount, startLoad } from "../load/load.ts";
import { cleanUp, type TestScope } from "../support/clean_up.ts";
import { cli } from "../support/cli.ts";
import { freePort } from "../support/port.ts";
import { isAlive } from "../support/proc.ts";
import { fixture, type Program, startProgram, temporaryFolder } from "../support/program.ts";
import { oneOfEachKind, type Runtime } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";

function start(
  t: TestScope,
  runtime: Runtime,
  module: string,
  args: string[] = [],
  env: Record<string, string> = {},
): Program {
  return startProgram(t, runtime, { command: [...cli(runtime), "serve", ...args, module], env });
}

/** Where it listens, from the banner, and its pid. */
async function served(program: Program, generation = 0): Promise<{ url: string; pid: number }> {
  const more = generation === 0 ? "" : `, generation ${generation}`;
  const line = await program.line(new RegExp(`^Listening on (\\S+) \\(pid (\\d+)${more}\\)$`));
  const [, url, pid] = /^Listening on (\S+) \(pid (\d+)/.exec(line) ?? [];
  return { url: url as string, pid: Number(pid) };
}

async function answer(url: string): Promise<string> {
  const response = await fetch(url, { headers: { connection: "close" } });
  assert.equal(response.status, 200);
  return await response.text();
}

for (const runtime of oneOfEachKind) {
  test(`${runtime.name}: serve: a module that exports fetch reloads under load, and keeps the port that the kernel chose`, async (t) => {
    const program = start(t, runtime, fixture("fetch_app.ts"), [
      "--port",
      "0",
      "--host",
      "127.0.0.1",
    ]);
    const first = await served(program);
    const { port } = new URL(first.url);
    const load = startLoad("new", { port: Number(port) }, 4);
    cleanUp(t, () => load.stop());
    let current = first;
    for (let i = 1; i <= 3; i++) {
      const old = current;
      program.signal(old.pid);
      current = await served(program, i);
      assert.equal(current.url, first.url);
      await until(`generation ${i} to answer`, () => load.tally.generations.has(i));
      await until("the old process to be gone", () => !isAlive(old.pid));
    }
    const tally = await load.stop();
    assert.equal(failureCount(tally), 0, describeTally(tally));
    program.signal(current.pid, "SIGTERM");
    await until("it to be gone", () => !isAlive(current.pid));
  });

  test(`${runtime.name}: serve: a new version is loaded, one that is broken is not`, async (t) => {
    const folder = temporaryFolder(t);
    const module = join(folder, "app.mjs");
    const write = (text: string) => writeFileSync(module, text);
    write(`export default { fetch: () => new Response("one") };`);
    const port = await freePort();
    const program = start(t, runtime, module, [], { PORT: String(port), HOST: "127.0.0.1" });
    const first = await served(program);
    assert.equal(first.url, `http://127.0.0.1:${port}/`);
    assert.equal(await answer(first.url), "one");
    write(`export default { fetch: () => new Response("two") }`);
    program.signal(first.pid);
    const second = await served(program, 1);
    await until("the old process to be gone", () => !isAlive(first.pid));
    assert.equal(await answer(first.url), "two");
    write(`export default { fetch: () => `);
    program.signal(second.pid);
    await program.line(/reload failed: .* exited with code \d+ .* goes on unchanged/);
    assert.equal(await answer(first.url), "two");
  });

  test(`${runtime.name}: serve: a unix socket, and a pid file`, async (t) => {
    const folder = temporaryFolder(t);
    const path = join(folder, "app.sock");
    const program = start(t, runtime, fixture("fetch_app.ts"), [
      "--unix",
      path,
      "--pid-file",
      join(folder, "pid"),
    ]);
    const { url, pid } = await served(program);
    assert.equal(url, `unix:${path}`);
    assert.ok(existsSync(join(folder, "pid")));
    const load = startLoad("new", { path }, 2);
    cleanUp(t, () => load.stop());
    program.signal(pid);
    await served(program, 1);
    await until("the new process to answer", () => load.tally.generations.has(1));
    const tally = await load.stop();
    assert.equal(failureCount(tally), 0, describeTally(tally));
  });

  test(`${runtime.name}: serve: apps of Hono, H3 and Elysia run as they are`, async (t) => {
    for (const name of ["hono", "h3", "elysia"]) {
      const program = start(t, runtime, fixture(`apps/${name}.mjs`), ["--port", "0"]);
      const { url, pid } = await served(program);
      assert.match(url, /^http:\/\/localhost:\d+\/$/);
      assert.equal(await answer(new URL("/hello/world", url).href), `${name} says hello to world`);
      program.signal(pid);
      const second = await served(program, 1);
      await until("the old process to be gone", () => !isAlive(pid));
      assert.equal(
        await answer(new URL("/hello/again", second.url).href),
        `${name} says hello to again`,
      );
    }
  });
}

for (const runtime of oneOfEachKind) {
  test(`${runtime.name}: serve: the error of a module has its place`, async (t) => {
    const module = join(temporaryFolder(t), "app.mjs");
    for (const wrong of ["let a = ;", "(() => undefined.foo)();"]) {
      writeFileSync(module, `\n\n${wrong}\nexport default { fetch() {} };`);
      const program = start(t, runtime, module);
      await program.line(/app\.mjs:3/);
      await until("the end", () => program.process.exitCode === 1);
    }
  });

  test(`${runtime.name}: serve: a handler that throws, and a client that leaves, end one request`, async (t) => {
    const module = join(temporaryFolder(t), "app.mjs");
    const write = (more: string) =>
      writeFileSync(
        module,
        `export default { ${more} async fetch(request) {
  if (request.method === "POST") return new Response(await request.text());
  if (request.url.endsWith("/throw")) throw new Error("boom");
  return new Response("fine");
} };`,
      );
    write("");
    const program = start(t, runtime, module, ["--port", "0", "--host", "127.0.0.1"]);
    const { url, pid } = await served(program);
    assert.equal((await fetch(`${url}throw`)).status, 500);
    await program.line(/boom/);
    const upload = connect(Number(new URL(url).port), "127.0.0.1");
    upload.write("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 9\r\n\r\nabc");
    upload.end();
    await once(upload.on("error", () => {}).resume(), "close");
    assert.equal(await answer(url), "fine");
    assert.ok(isAlive(pid));

    // As Bun has it: the module's own answer.
    write(`error: (error) => new Response(error.message, { status: 503 }),`);
    program.signal(pid);
    const headers = { connection: "close" };
    await until(
      "the new version to answer",
      async () => (await fetch(`${url}throw`, { headers })).status === 503,
    );
  });
}

test("serve, as a function: a wrong call is an error that says so", async () => {
  const { serve } = await import("../../serve.ts");
  await assert.rejects(serve({} as { fetch(): Response }), /serve: there must be a fetch handler/);
  await assert.rejects(
    serve(() => new Response(), { port: 65_536 }),
    /serve: the port must be a whole number/,
  );
  await assert.rejects(serve(() => new Response(), { prot: 1 } as object), /serve: .*prot/);
});
