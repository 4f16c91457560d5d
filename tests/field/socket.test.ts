/** `reload-self run --socket`: the socket outlives the program, so that a crash refuses nobody. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { test } from "node:test";
import type { ServerSetup } from "../fixtures/server.ts";
import { describeTally, failureCount, startLoad } from "../load/load.ts";
import { type Server, startServer } from "../load/rows.ts";
import { cleanUp, type TestScope } from "../support/clean_up.ts";
import { cli, runCli } from "../support/cli.ts";
import { freePort } from "../support/port.ts";
import { fixture, startProgram } from "../support/program.ts";
import { isAlive } from "../support/proc.ts";
import { oneOfEachKind, type Runtime } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";

/** How many clients there are: a crash costs each of them one request. */
const CLIENTS = 4;

interface Started extends Server {
  readonly port: number;
}

async function start(
  t: TestScope,
  runtime: Runtime,
  setup: ServerSetup,
  parent = runtime,
  more: string[] = [],
): Promise<Started> {
  const port = await freePort();
  const wrap = [...cli(parent), "run", "--socket", `127.0.0.1:${port}`, ...more, "--"];
  const options = { probation: 300, idleGrace: 300, ...setup.options };
  return {
    port,
    ...await startServer(t, runtime, { host: "127.0.0.1", ports: [port], ...setup, options }, {
      wrap,
    }),
  };
}

/** Kills the program, waits until it serves again, and returns the pid that does. */
async function crash({ program }: Server, pid: number): Promise<number> {
  const from = program.reports.length;
  program.signal(pid, "SIGKILL");
  return (await program.report("serving", { generation: 0 }, from)).pid;
}

const kinds = oneOfEachKind.flatMap((runtime) =>
  runtime.servers.filter((kind) => kind !== "native").map((kind) => ({ runtime, kind }))
);
for (const { runtime, kind } of kinds) {
  test(`${runtime.name}, ${kind}: kill -9 under load refuses nobody, and reloads go on working`, async (t) => {
    const server = await start(t, runtime, { kind });
    const { program, first, port } = server;
    assert.equal(first.ports[0], port);
    const load = startLoad("new", { port }, CLIENTS);
    cleanUp(t, () => load.stop());
    let { pid } = first;
    for (let i = 1; i <= 3; i++) {
      const { ok } = load.tally;
      await until("the clients to be answered", () => load.tally.ok > ok + 20);
      pid = await crash(server, pid);
    }
    const { ok } = load.tally;
    await until("the clients to be answered", () => load.tally.ok > ok + 20);
    const lost = failureCount(load.tally);
    assert.ok(lost <= 3 * CLIENTS, describeTally(load.tally));
    const kinds = [...load.tally.failures.keys()];
    assert.deepEqual(
      kinds.filter((kind) =>
        !/^(ECONNRESET|(truncated answer: )?(closed without an answer|ECONNRESET))$/.test(kind)
      ),
      [],
      describeTally(load.tally),
    );

    for (let i = 1; i <= 2; i++) {
      program.signal(program.process.pid as number);
      const next = await program.report("in-charge", { generation: i });
      await until(`generation ${i} to answer`, () => load.tally.generations.has(i));
      await until("the old process to be gone", () => !isAlive(pid));
      pid = next.pid;
    }
    assert.equal(
      failureCount(load.tally),
      lost,
      `a reload loses nothing: ${describeTally(load.tally)}`,
    );
    pid = await crash(server, pid);
    const again = load.tally.ok;
    await until("the clients to be answered", () => load.tally.ok > again + 20);
    const tally = await load.stop();
    assert.ok(
      failureCount(tally) <= lost + CLIENTS && !tally.failures.has("ECONNREFUSED"),
      describeTally(tally),
    );
    assert.equal(
      (await fetch(`http://127.0.0.1:${port}/1/10/1/0`, { headers: { connection: "close" } }))
        .status,
      200,
    );
    program.signal(program.process.pid as number, "SIGTERM");
    await until("it to end", () => program.process.exitCode === 0);
    await assert.rejects(fetch(`http://127.0.0.1:${port}/`), "nothing keeps the socket");
  });

  test(`${runtime.name}, ${kind}: the old process is killed while the new one starts: that one has the socket at once`, async (t) => {
    const { program, first, port } = await start(t, runtime, { kind });
    program.behave("manual");
    program.signal(program.process.pid as number);
    const second = await program.report("waiting");
    const load = startLoad("new", { port }, CLIENTS);
    cleanUp(t, () => load.stop());
    await until("the clients to be answered", () => load.tally.ok > 20);
    program.signal(first, "SIGKILL");
    await program.report("in-charge", { pid: second.pid, predecessor: "gone" });
    const { ok } = load.tally;
    await until(
      "the new process to answer",
      () => load.tally.generations.has(1) && load.tally.ok > ok + 20,
    );
    assert.ok(!load.tally.failures.has("ECONNREFUSED"), describeTally(load.tally));
    program.behave("run");
    program.signal(program.process.pid as number);
    await program.report("in-charge", { generation: 2 });
    await until("the next process to answer", () => load.tally.generations.has(2));
    const tally = await load.stop();
    assert.ok(failureCount(tally) <= CLIENTS, describeTally(tally));
  });

  test(`${runtime.name}, ${kind}: a version that fails its check, below a socket that outlives it`, async (t) => {
    const port = await freePort();
    const wrap = [
      ...cli(runtime),
      "run",
      "--socket",
      `127.0.0.1:${port}`,
      "--check",
      `http://127.0.0.1:${port}/1/10/1/100`,
      "--",
    ];
    const setup = {
      kind,
      host: "127.0.0.1",
      ports: [port],
      options: { probation: 300, idleGrace: 300 },
    };
    const { program, first } = await startServer(t, runtime, setup, { wrap });
    const load = startLoad("new", { port }, CLIENTS);
    cleanUp(t, () => load.stop());
    program.behave("bad");
    program.signal(first);
    assert.equal((await program.report("reload-fail")).error.code, "check");
    const { ok } = load.tally;
    await until("the old version to answer", () => load.tally.ok > ok + 20);
    const next = program.reports.length;
    program.behave("run");
    program.signal(first);
    await program.report("reload-end", {}, next);
    const tally = await load.stop();
    assert.deepEqual([...tally.failures.keys()], ["status 500"], describeTally(tally));
  });
}

for (const [i, parent] of oneOfEachKind.entries()) {
  const runtime = oneOfEachKind[(i + 1) % oneOfEachKind.length] as Runtime;

  test(`${parent.name} for ${runtime.name}: a module that is served by default on all addresses, in two instances`, async (t) => {
    const port = await freePort();
    if (parent.name === "node22") {
      const { code, stderr } = await runCli(parent, [
        "run",
        "--socket",
        String(port),
        "--instances",
        "2",
        "--",
        "true",
      ]);
      assert.equal(code, 2);
      return assert.match(
        stderr,
        /nothing can listen there: for several instances it takes Node 23\.1 or later, not v22/,
      );
    }
    const served = [...cli(runtime), "serve", "--port", String(port), fixture("fetch_app.ts")];
    const command = [
      ...cli(parent),
      "run",
      "--socket",
      String(port),
      "--instances",
      "2",
      "--",
      ...served,
    ];
    const program = startProgram(t, parent, { command });
    const banners = (generation: number) => {
      const more = generation === 0 ? "" : `, generation ${generation}`;
      return program.lines.filter((line) =>
        new RegExp(`^Listening on http://localhost:${port}/ \\(pid \\d+${more}\\)$`).test(line)
      );
    };
    await until("both to listen", () => banners(0).length === 2);
    const load = startLoad("new", { port }, CLIENTS);
    cleanUp(t, () => load.stop());
    await until("the clients to be answered", () => load.tally.ok > 20);
    program.signal(program.process.pid as number);
    await until("both to be replaced", () => banners(1).length === 2);
    await until("generation 1 to answer", () => load.tally.generations.has(1));
    const tally = await load.stop();
    assert.equal(failureCount(tally), 0, describeTally(tally));
  });

  test(`${parent.name}: a socket that cannot be had is an error that says so`, async () => {
    const taken = createServer().listen(0, "127.0.0.1");
    await once(taken, "listening");
    const { port } = taken.address() as AddressInfo;
    const { code, stderr } = await runCli(parent, [
      "run",
      "--socket",
      `127.0.0.1:${port}`,
      "--",
      "true",
    ]);
    taken.close();
    assert.equal(code, 2);
    assert.match(
      stderr,
      new RegExp(`--socket 127\\.0\\.0\\.1:${port}: nothing can listen there: .*in use`),
    );
    for (const wrong of ["http", "0", "65536", "a:b"]) {
      const { code, stderr } = await runCli(parent, ["run", "--socket", wrong, "--", "true"]);
      assert.equal(code, 2);
      assert.match(stderr, /--socket must be /);
    }
  });
}
