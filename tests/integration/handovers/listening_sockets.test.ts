/** What `bind` promises: which socket a server listens on, and from when to when. */
import assert from "node:assert/strict";
import { readlinkSync } from "node:fs";
import { createServer } from "node:net";
import { test } from "node:test";
import { openConnection } from "../../load/http1.ts";
import { startServer } from "../../load/rows.ts";
import { cleanUp, type TestScope } from "../../support/clean_up.ts";
import { freePort } from "../../support/port.ts";
import { fixture, type Report, startProgram } from "../../support/program.ts";
import { runtimes } from "../../support/runtimes.ts";
import { isAlive } from "../../support/proc.ts";
import { until } from "../../support/wait.ts";

/** Which generation answers on a port. */
async function generationAt(port: number, host?: string): Promise<number> {
  const connection = await openConnection({ port, host });
  connection.write("GET /1/10/1/0 HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
  try {
    return Number((await connection.answer()).headers.get("x-generation"));
  } finally {
    connection.close();
  }
}

async function isRefused(port: number): Promise<boolean> {
  try {
    (await openConnection({ port })).close();
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ECONNREFUSED";
  }
}

/** The next generation, in charge, and its predecessor gone. */
async function reload(
  server: { program: Awaited<ReturnType<typeof startServer>>["program"] },
  old: Report,
): Promise<Report> {
  server.program.signal(old);
  const next = await server.program.report("serving", { generation: old.generation + 1 });
  await server.program.report("in-charge", { pid: next.pid });
  await until(`${old.pid} to be gone`, () => !isAlive(old.pid));
  return next;
}

for (const runtime of runtimes) {
  test(`${runtime.name}: several servers; port 0 keeps the number that the first generation got`, async (t) => {
    const server = await startServer(t, runtime, {
      kind: "http",
      ports: [0, 0],
      host: "127.0.0.1",
      options: { probation: 10, idleGrace: 10 },
    });
    const second = await reload(server, server.first);
    assert.deepEqual(second.ports, server.first.ports);
    const third = await reload(server, second);
    assert.deepEqual(third.ports, server.first.ports);
    for (const port of server.first.ports) assert.equal(await generationAt(port), 2);
  });

  test(`${runtime.name}: an address that is new is bound, one that is not wanted any more is closed`, async (t) => {
    const [kept, dropped, added] = [await freePort(), await freePort(), await freePort()];
    const server = await startServer(t, runtime, {
      kind: "http",
      ports: [kept, dropped],
      options: { probation: 10, idleGrace: 10 },
    });
    server.program.behave(`setup ${JSON.stringify({ ports: [kept, added], announce: true })}`);
    const second = await reload(server, server.first);
    assert.equal(await generationAt(kept), 1);
    assert.equal(await generationAt(added), 1);
    assert.ok(await isRefused(dropped), "nobody listens on what is not wanted");
    assert.equal(server.program.reports.filter(({ type }) => type === "reload-fail").length, 0);
    assert.deepEqual(second.ports, [kept, added]);
  });

  test(`${runtime.name}: a new process that does not listen on all that the old one does is not ready, and is told what is missing`, async (t) => {
    const [kept, dropped] = [await freePort(), await freePort()];
    const server = await startServer(t, runtime, {
      kind: "http",
      ports: [kept, dropped],
      options: { probation: 10, idleGrace: 10, readyTimeout: 4_000 },
    });
    server.program.behave(`setup ${JSON.stringify({ ports: [kept] })}`);
    server.program.signal(server.first);
    const { error } = await server.program.report("reload-fail");
    assert.equal(error.code, "timeout");
    assert.match(
      error.message,
      new RegExp(`did not listen on \\*:${dropped}, as this process does; .*token\\.ready\\(\\)`),
    );
    assert.equal(await generationAt(kept), 0);
    assert.equal(await generationAt(dropped), 0);
  });

  test(`${runtime.name}: a server on port 0 that is missing is named by its port`, async (t) => {
    const server = await startServer(t, runtime, {
      kind: "http",
      ports: [0],
      options: { probation: 10, idleGrace: 10, readyTimeout: 4_000 },
    });
    server.program.behave(`setup ${JSON.stringify({ ports: [await freePort()] })}`);
    server.program.signal(server.first);
    const { error } = await server.program.report("reload-fail");
    assert.match(error.message, new RegExp(`did not listen on \\*:${server.first.ports[0]},`));
  });

  test(`${runtime.name}: a new process is not ready before it listens, and gets nothing before it is in charge`, async (t) => {
    const server = await startServer(t, runtime, {
      kind: "http",
      options: { probation: 10, idleGrace: 10 },
    });
    const port = server.target.port as number;
    server.program.behave("late 500");
    server.program.signal(server.first);
    await server.program.report("successor-start");
    const started = performance.now();
    await until("the new process to answer", async () => await generationAt(port) === 1);
    assert.ok(
      performance.now() - started >= 500,
      "it was not taken for ready while it had not begun to listen",
    );
  });

  test(`${runtime.name}: bound, and not yet ready by its own word: the old process answers`, async (t) => {
    const server = await startServer(t, runtime, {
      kind: "http",
      options: { probation: 10, idleGrace: 10, readyTimeout: 5_000 },
    });
    const port = server.target.port as number;
    server.program.behave("manual");
    server.program.signal(server.first);
    const next = await server.program.report("waiting", { generation: 1 });
    assert.deepEqual(
      next.ports ?? (await server.program.report("serving", { generation: 1 })).ports,
      [port],
      "it knows its address",
    );
    for (let i = 0; i < 20; i++) assert.equal(await generationAt(port), 0);
    process.kill(next.pid, "SIGKILL");
    assert.equal((await server.program.report("reload-fail")).error.code, "exit");
    for (let i = 0; i < 20; i++) assert.equal(await generationAt(port), 0);
  });

  test(`${runtime.name}: the old process dies while the new one waits: the new one listens on the same port`, async (t) => {
    const server = await startServer(t, runtime, {
      kind: "http",
      options: { probation: 10, idleGrace: 10 },
    });
    const port = server.target.port as number;
    server.program.behave("manual");
    server.program.signal(server.first);
    await server.program.report("waiting", { generation: 1 });
    process.kill(server.first.pid, "SIGKILL");
    await server.program.report("in-charge", { generation: 1, predecessor: "gone" });
    await until(`${server.first.pid} to be gone`, () => !isAlive(server.first.pid));
    // The first thread of a process can be gone, and its sockets still be there: the kernel resets
    // who connects to them.
    const answers = () => generationAt(port).then((generation) => generation === 1, () => false);
    await until("the new process to answer", async () => !await isRefused(port) && await answers());
  });

  test(`${runtime.name}: an address in use is an error of bind`, async (t) => {
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen(0, "127.0.0.1", resolve));
    cleanUp(t, () => taken.close());
    const { port } = taken.address() as { port: number };
    await assert.rejects(startServerFailing(t, runtime, port), /EADDRINUSE/);
  });

  test(`${runtime.name}: a server that is bound after a reload has begun is handed over, and fails nothing`, async (t) => {
    const port = await freePort();
    const program = startProgram(t, runtime, {
      script: fixture("late_bind.ts"),
      args: [String(port)],
    });
    program.signal(await program.report("started"));
    await program.report("in-charge", { generation: 1 });
    await program.report("reload-end", { generation: 0 });
    assert.equal(await (await fetch(`http://127.0.0.1:${port}`)).text(), "1");
    assert.deepEqual(program.reports.filter(({ type }) => type === "reload-fail"), []);
  });

  test(`${runtime.name}: systemd's sockets are used, by address and by name, and passed on`, async (t) => {
    for (const name of [undefined, "admin"]) {
      const sockets = await Promise.all([0, 1].map(async () => {
        const socket = createServer();
        await new Promise<void>((resolve) => socket.listen(0, "127.0.0.1", resolve));
        return socket;
      }));
      const ports = sockets.map((socket) => (socket.address() as { port: number }).port);
      const setup = name === undefined ? { ports: ports.slice(0, 1) } : { ports: [0], name };
      const server = await startServer(t, runtime, {
        kind: "http",
        host: "127.0.0.1",
        options: { probation: 10, idleGrace: 10 },
        ...setup,
      }, {
        // No API tells the descriptor of a server; this is what Node's own child_process takes.
        descriptors: sockets.map((socket) =>
          (socket as unknown as { _handle: { fd: number } })._handle.fd
        ),
        env: { LISTEN_FDS: "2", LISTEN_FDNAMES: "web:admin" },
        wrap: ["/bin/sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh"],
      });
      for (const socket of sockets) socket.close(); // The program has its own, of the same sockets.
      const [port] = server.first.ports;
      assert.equal(port, ports[name === undefined ? 0 : 1]);
      const inode = socketOf(server.first.pid, name === undefined ? 3 : 4);
      let current = server.first;
      for (let i = 1; i <= 3; i++) {
        current = await reload(server, current);
        assert.deepEqual(current.ports, [port]);
        assert.equal(await generationAt(port), i);
        assert.equal(
          socketOf(current.pid, name === undefined ? 3 : 4),
          inode,
          "the very socket, under its number",
        );
      }
    }
  });
}

function socketOf(pid: number, fd: number): string {
  return readlinkSync(`/proc/${pid}/fd/${fd}`);
}

async function startServerFailing(
  t: TestScope,
  runtime: (typeof runtimes)[number],
  port: number,
): Promise<void> {
  const program = startProgram(t, runtime, {
    script: fixture("server.ts"),
    env: { SERVER: JSON.stringify({ kind: "http", ports: [port], host: "127.0.0.1" }) },
  });
  throw new Error(await program.line(/EADDRINUSE/));
}
