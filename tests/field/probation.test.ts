/**
 * A new version that is in charge, and fails before it has proved itself. All options have their
 * defaults.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type Connection, openConnection } from "../load/http1.ts";
import { type Server, startServer } from "../load/rows.ts";
import { cleanUp, type TestScope } from "../support/clean_up.ts";
import { isAlive } from "../support/proc.ts";
import { oneOfEachKind } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";

const REQUEST = "GET /1/10/1/0 HTTP/1.1\r\nHost: test\r\n\r\n";

async function open(t: TestScope, server: Server, count: number): Promise<Connection[]> {
  const connections = await Promise.all(
    Array.from({ length: count }, () => openConnection(server.target)),
  );
  cleanUp(t, () => connections.forEach((connection) => connection.close()));
  return connections;
}

/** Sends a request, and returns which generation has answered. */
async function ask(connection: Connection): Promise<number> {
  const answer = connection.answer();
  connection.write(REQUEST);
  return Number((await answer).headers.get("x-generation"));
}

/**
 * The old process has taken charge again: it answers, on a new connection, and the next reload
 * works.
 */
async function unharmed(t: TestScope, server: Server): Promise<void> {
  const { program, first } = server;
  assert.deepEqual(program.reports.filter(({ type }) => type === "cancel"), []);
  const [connection] = await open(t, server, 1);
  assert.equal(await ask(connection as Connection), 0);
  connection?.close();
  program.behave("run");
  const from = program.reports.length;
  program.signal(first);
  await program.report("reload-end", {}, from);
  await until("the old process to be gone", () => !isAlive(first.pid));
}

for (const runtime of oneOfEachKind) {
  for (const kind of runtime.servers) {
    const name = `${runtime.name}, ${kind}`;

    for (
      const [what, behaviour, code] of [
        ["dies 0.7 s after it took over is rolled back", "die 700", "exit"],
        ["computes for ever after it took over is killed and rolled back", "spin 400", "silent"],
      ] as const
    ) {
      test(`${name}: a new version that ${what}`, async (t) => {
        const server = await startServer(t, runtime, { kind });
        server.program.behave(behaviour);
        server.program.signal(server.first);
        const { error, wasInCharge } = await server.program.report("reload-fail");
        assert.equal(error.code, code);
        assert.equal(wasInCharge, true);
        assert.ok(!isAlive(error.pid));
        await unharmed(t, server);
      });
    }

    test(`${name}: the old process is stopped on probation: what was sent meanwhile is answered`, async (t) => {
      const server = await startServer(t, runtime, { kind });
      const connections = await open(t, server, 20);
      for (const connection of connections) await ask(connection);
      const { program, first } = server;
      program.signal(first);
      await program.report("in-charge", { generation: 1 });
      program.signal(first, "SIGSTOP");
      const answers = connections.map((connection) => connection.answer());
      for (const connection of connections) connection.write(REQUEST);
      // The time of the whole probation passes while it is stopped.
      await new Promise((resolve) => setTimeout(resolve, 1_500));
      program.signal(first, "SIGCONT");
      for (const answer of answers) {
        assert.ok(["0", "1"].includes((await answer).headers.get("x-generation") as string));
      }
      await program.report("reload-end");
    });
  }

  test(`${runtime.name}: the new version is killed while connections move: the old one takes charge again`, async (t) => {
    const server = await startServer(t, runtime, { kind: "http" });
    const idle = await open(t, server, 10);
    for (const connection of idle) await ask(connection);
    // One that is busy keeps the old process waiting until it has answered.
    const [busy] = await open(t, server, 1);
    const answer = busy?.answer();
    busy?.write("GET /1/1000/100/30 HTTP/1.1\r\nHost: test\r\n\r\n");
    server.program.signal(server.first);
    const next = await server.program.report("in-charge", { generation: 1 });
    await until(
      "a connection to have moved",
      async () => (await Promise.all(idle.map(ask))).includes(1),
    );
    server.program.signal(next, "SIGKILL");
    assert.equal((await server.program.report("reload-fail")).wasInCharge, true);
    assert.equal((await answer)?.headers.get("x-generation"), "0");
    await unharmed(t, server);
  });
}
