/** Connections of HTTP that wait for a request move to the new process. */
import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { type Connection, openConnection } from "../../load/http1.ts";
import { startServer } from "../../load/rows.ts";
import { isAlive } from "../../support/proc.ts";
import type { Report } from "../../support/program.ts";
import { oneOfEachKind, type Runtime, runtimes } from "../../support/runtimes.ts";
import { until } from "../../support/wait.ts";

const GET = "GET /1/10/1/0 HTTP/1.1\r\nHost: test\r\n\r\n";

const start = (t: TestContext, runtime: Runtime, options: object = {}, setup: object = {}) =>
  startServer(t, runtime, {
    kind: "http",
    ...setup,
    options: { probation: 200, idleGrace: 200, ...options },
  });

/** Asks, and returns the generation that answered. */
async function ask(connection: Connection, request: string = GET): Promise<number> {
  connection.write(request);
  return Number((await connection.answer()).headers.get("x-generation"));
}

const counts = ({ moved, left }: Report) => ({ moved, left });

for (const runtime of runtimes) {
  test(`${runtime.name}: a thousand connections, idle, busy or never used, and a reload makes no new one`, async (t) => {
    const { program, first, target } = await start(t, runtime);
    const connections = await Promise.all(
      Array.from({ length: 1_000 }, () => openConnection(target)),
    );
    const idle = connections.slice(0, 900);
    const busy = connections.slice(900, 920);
    await Promise.all(idle.map((connection) => ask(connection)));
    // The last one to connect is the last to be accepted: none waits in the socket any more.
    await ask(connections.at(-1) as (typeof connections)[number]);
    // These leave their connection idle only for the time in which an answer travels.
    const asking = busy.map(async (connection) => {
      let generation: number;
      do generation = await ask(
        connection,
        "GET /1/10/2/30 HTTP/1.1\r\nHost: test\r\n\r\n",
      ); while (generation === 0);
    });
    program.signal(first);
    const { moved, left } = counts(await program.report("connections-move"));
    // Bun's server accepts a connection when something has come (TCP_DEFER_ACCEPT), or a second has
    // passed: others wait in the socket.
    assert.ok(runtime.kind === "bun" ? Number(moved) >= 920 : moved === 1_000, `${moved} moved`);
    assert.equal(left, 0);
    await Promise.all(asking);
    await until("the old process to be gone", () => !isAlive(first.pid));
    assert.deepEqual(
      new Set(await Promise.all(connections.map((connection) => ask(connection)))),
      new Set([1]),
    );
    assert.equal(connections.some(({ isClosed }) => isClosed), false);
  });
}

for (const runtime of oneOfEachKind) {
  test(`${runtime.name}: a request of which a part has come is answered by the process that has read it`, async (t) => {
    const { program, first, target } = await start(t, runtime, { probation: 300, idleGrace: 300 });
    const [head, body] = await Promise.all([openConnection(target), openConnection(target)]);
    head.write(GET.slice(0, 20));
    body.write("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 6\r\n\r\nabc");
    await until(
      "the parts to be read",
      async () => (await ask(await openConnection(target))) === 0,
    );
    program.signal(first);
    await program.report("cancel");
    head.write(GET.slice(20));
    body.write("def");
    for (const connection of [head, body]) {
      assert.equal((await connection.answer()).headers.get("x-generation"), "0");
    }
  });

  test(`${runtime.name}: a new process that dies on probation takes no idle connection with it`, async (t) => {
    const { program, first, target } = await start(t, runtime, {
      probation: 5_000,
      idleGrace: 5_000,
    });
    const connection = await openConnection(target);
    await ask(connection);
    program.signal(first);
    const next = await program.report("in-charge");
    program.signal(next, "SIGKILL");
    await program.report("reload-fail");
    assert.equal(await ask(connection), 0);
  });

  test(`${runtime.name}: a connection that has moved and is not used is closed as an idle one is`, async (t) => {
    const { program, first, target } = await start(t, runtime, {}, {
      server: { keepAliveTimeout: 3_000 },
    });
    const connection = await openConnection(target);
    await ask(connection);
    program.signal(first);
    assert.deepEqual(counts(await program.report("connections-move")), { moved: 1, left: 0 });
    await until("the connection to be closed", () => connection.isClosed);
  });

  test(`${runtime.name}: with moveIdle: false an idle connection stays, and is drained`, async (t) => {
    const { program, first, target } = await start(t, runtime, {}, { bind: { moveIdle: false } });
    const connection = await openConnection(target);
    await ask(connection);
    program.signal(first);
    await program.report("cancel");
    assert.equal(await ask(connection), 0);
    await until("the connection to be closed", () => connection.isClosed);
    assert.equal(program.reports.some(({ type }) => type === "connections-move"), false);
  });

  test(`${runtime.name}: a connection that has moved lives through the next reload`, async (t) => {
    const { program, first, target } = await start(t, runtime);
    const [used, unused] = await Promise.all([openConnection(target), openConnection(target)]);
    await Promise.all([ask(used), ask(unused)]);
    program.signal(first);
    const next = await program.report("in-charge", { generation: 1 });
    await program.report("connections-move", { generation: 0 });
    await ask(used);
    program.signal(next);
    assert.deepEqual(counts(await program.report("connections-move", { generation: 1 })), {
      moved: 2,
      left: 0,
    });
    assert.deepEqual(await Promise.all([ask(used), ask(unused)]), [2, 2]);
  });
}
