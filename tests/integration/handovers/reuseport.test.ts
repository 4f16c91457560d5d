/** Native servers: what is steered, and what is told where it cannot be. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { describeTally, failureCount, startLoad } from "../../load/load.ts";
import { type Server, startServer } from "../../load/rows.ts";
import { openConnection } from "../../load/http1.ts";
import { cleanUp } from "../../support/clean_up.ts";
import { freePort } from "../../support/port.ts";
import { fixture, type Report, startProgram } from "../../support/program.ts";
import { runtimes } from "../../support/runtimes.ts";
import { isAlive } from "../../support/proc.ts";
import { until } from "../../support/wait.ts";

/** How many of `count` new connections each generation answers. */
async function share(port: number, host: string, count = 60): Promise<Map<number, number>> {
  const generations = new Map<number, number>();
  for (let i = 0; i < count; i++) {
    const connection = await openConnection({ port, host });
    connection.write("GET /1/10/1/0 HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    const generation = Number((await connection.answer()).headers.get("x-generation"));
    generations.set(generation, (generations.get(generation) ?? 0) + 1);
    connection.close();
  }
  return generations;
}

async function reload({ program }: Server, old: Report): Promise<Report> {
  program.signal(old);
  const next = await program.report("in-charge", { generation: old.generation + 1 });
  await program.report("cancelled", { pid: old.pid });
  return next;
}

for (const runtime of runtimes.filter(({ kind }) => kind !== "node")) {
  const hosts: [name: string, listen: string, connect: string][] = [
    ["IPv4", "127.0.0.1", "127.0.0.1"],
    ["IPv6", "::1", "::1"],
    ["dual stack", "::", "127.0.0.1"],
  ];
  for (const [name, host, to] of hosts) {
    test(`${runtime.name}: ${name}: all connections go to the old process, then all to the new one`, async (t) => {
      const server = await startServer(t, runtime, {
        kind: "native",
        host,
        options: { probation: 400, idleGrace: 400 },
      });
      const port = server.target.port as number;
      server.program.behave("manual");
      server.program.signal(server.first);
      await server.program.report("waiting", { generation: 1 });
      assert.deepEqual(await share(port, to), new Map([[0, 60]]), "it listens, and is not ready");
      const { pid } = await server.program.report("successor-start");
      process.kill(pid, "SIGKILL");
      await server.program.report("reload-fail");
      assert.deepEqual(await share(port, to), new Map([[0, 60]]), "it has failed");
      server.program.behave("run");
      server.program.signal(server.first);
      await server.program.report("in-charge");
      assert.deepEqual(
        await share(port, to),
        new Map([[1, 60]]),
        "it is in charge, and the old one still listens",
      );
      await server.program.report("cancelled", { pid: server.first.pid });
      assert.deepEqual(await share(port, to), new Map([[1, 60]]), "the old one has left");
    });
  }

  test(`${runtime.name}: several ports, and several listeners of each, under load`, async (t) => {
    const server = await startServer(t, runtime, {
      kind: "native",
      ports: [0, 0],
      times: 3,
      // The order of the descriptors is not that of the sockets in their group.
      highFirst: true,
      // A client that gets no time to ask on its new connection for so long is cut.
      options: { probation: 1_000 },
    });
    const ports = [...new Set(server.first.ports as number[])];
    assert.equal(ports.length, 2);
    const loads = ports.map((port) => startLoad("new", { port }, 4));
    cleanUp(t, () => loads.forEach((load) => load.stop()));
    let current = server.first;
    for (let i = 0; i < 3; i++) {
      current = await reload(server, current);
      assert.deepEqual(await share(ports[0] as number, "127.0.0.1"), new Map([[i + 1, 60]]));
    }
    // Fewer than before, and more.
    server.program.behave(`setup ${JSON.stringify({ times: 1 })}`);
    current = await reload(server, current);
    server.program.behave("run");
    await reload(server, current);
    for (const tally of await Promise.all(loads.map((load) => load.stop()))) {
      assert.equal(failureCount(tally), 0, describeTally(tally));
    }
  });

  test(`${runtime.name}: a server that never closes its socket does not get in the way of later reloads`, async (t) => {
    const server = await startServer(t, runtime, {
      kind: "native",
      stay: true,
      options: { probation: 100, idleGrace: 100 },
    });
    const port = server.target.port as number;
    let current = server.first;
    for (let i = 1; i <= 3; i++) {
      current = await reload(server, current);
      assert.deepEqual(await share(port, "127.0.0.1"), new Map([[i, 60]]));
    }
    assert.ok(isAlive(server.first.pid));
  });

  test(`${runtime.name}: without reusePort the error says what to do`, async (t) => {
    const server = await startServer(t, runtime, { kind: "native", reusePort: false });
    server.program.signal(server.first);
    const { error } = await server.program.report("reload-fail");
    assert.match(error.message, /0\.0\.0\.0:\d+|\[::\]:\d+/);
    assert.match(error.message, /token\.adopt\(Deno\.serve\)/);
    assert.deepEqual(await share(server.target.port as number, "127.0.0.1", 5), new Map([[0, 5]]));
  });

  test(`${runtime.name}: plain SO_REUSEPORT loses requests, and the load generator finds them`, async (t) => {
    const server = await startServer(t, runtime, { kind: "native", bare: true });
    const load = startLoad("new", server.target, 16);
    cleanUp(t, () => load.stop());
    const setup = { kind: "native", bare: true, ports: [server.target.port] };
    let old = server.first;
    // As many as it takes: one restart loses nothing now and then.
    for (let i = 0; i < 100 && failureCount(load.tally) === 0; i++) {
      const program = startProgram(t, runtime, {
        command: [runtime.executable, ...runtime.flags, fixture("server.ts")],
        env: { SERVER: JSON.stringify(setup) },
      });
      const next = await program.report("serving");
      process.kill(old.pid, "SIGTERM");
      await until(`${old.pid} to be gone`, () => !isAlive(old.pid));
      old = next;
    }
    const tally = await load.stop();
    assert.ok(failureCount(tally) > 0, describeTally(tally));
  });
}

const deno = runtimes.find(({ kind }) => kind === "deno");
if (deno !== undefined) {
  test("deno: deno serve --parallel: one thread answers the signal, and the error says what to do", async (t) => {
    const port = await freePort();
    const program = startProgram(t, deno, {
      command: [
        deno.executable,
        "serve",
        "--quiet",
        "--parallel",
        "-A",
        "--unstable-net",
        `--port=${port}`,
        fixture("deno_serve.ts"),
      ],
      env: { DENO_JOBS: "3" },
    });
    const first = await program.report("start");
    await until(
      "it to listen",
      () => openConnection({ port }).then((connection) => (connection.close(), true), () => false),
    );
    program.signal(first);
    const { error } = await program.report("reload-fail");
    assert.match(error.message, /deno serve.*reload-self serve/);
    // The new process may have ended before the one that is elected in it has said so.
    const started = program.reports.filter(({ type }) => type === "start").map(({ pid }) => pid);
    const next = await program.report("successor-start");
    assert.deepEqual(
      started,
      [first.pid, next.pid].slice(0, started.length),
      "one of each process",
    );
    assert.equal(program.reports.filter(({ type }) => type === "reload-begin").length, 1);
    assert.deepEqual(await share(port, "127.0.0.1", 5), new Map([[0, 5]]));
  });

  const restricted = [
    "run",
    "--quiet",
    "--unstable-net",
    "--allow-env",
    "--allow-read",
    "--allow-net",
    "--allow-sys",
  ];
  test("deno: without --allow-ffi it reloads, and says once what is lost and which flag fixes it", async (t) => {
    const runtimeFlags = [...restricted, `--allow-run=${deno.executable}`];
    const server = await startServer(t, deno, {
      kind: "native",
      options: { probation: 100, idleGrace: 100 },
    }, {
      runtimeFlags,
    });
    let current = server.first;
    for (let i = 1; i <= 2; i++) {
      const old = current;
      current = await reload(server, old);
      // Until then a connection may still go to the old one, and be lost with it: that is what is
      // told.
      await until("the old process to be gone", () => !isAlive(old.pid));
    }
    const told = server.program.lines.filter((line) => line.includes("--allow-ffi"));
    assert.equal(told.filter((line) => line.includes(`process ${server.first.pid}`)).length, 1);
    assert.match(told[0] as string, /cannot be handed over.*Add --allow-ffi/);
    assert.deepEqual(await share(server.target.port as number, "127.0.0.1", 5), new Map([[2, 5]]));
  });
}
