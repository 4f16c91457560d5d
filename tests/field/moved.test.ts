/**
 * How a server treats the connections that have moved to it: as idle ones that it has accepted
 * itself.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type Connection, openConnection } from "../load/http1.ts";
import { startServer } from "../load/rows.ts";
import { fixture, startProgram } from "../support/program.ts";
import { runtimes } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";

const GET = "GET /1/10/1/0 HTTP/1.1\r\nHost: test\r\n\r\n";
/** Takes 1.5 seconds to answer: five times `headersTimeout`. */
const SLOW = "GET /1/100/30/50 HTTP/1.1\r\nHost: test\r\n\r\n";
const shortHeaders = { headersTimeout: 300, requestTimeout: 300, connectionsCheckingInterval: 50 };

for (const runtime of runtimes) {
  test(`${runtime.name}: a moved connection has keepAliveTimeout, and headersTimeout from the first byte of a request on`, async (t) => {
    const server = { keepAliveTimeout: 3_000, ...shortHeaders };
    const { program, first, target } = await startServer(t, runtime, { kind: "http", server });
    const [unused, used, busy] = await Promise.all([GET, GET, GET].map(async (text) => {
      const connection = await openConnection(target);
      connection.write(text);
      await connection.answer();
      return connection;
    }));
    assert.ok(unused && used && busy);
    program.signal(first);
    const { moved } = await program.report("connections-move");
    const begun = performance.now();
    assert.equal(moved, 3);
    busy.write(SLOW);
    assert.equal((await busy.answer()).headers.get("x-generation"), "1");
    assert.deepEqual([unused.isClosed, used.isClosed], [false, false]);
    used.write(GET);
    assert.equal((await used.answer()).status, 200);
    await until("the unused connection to be closed", () => unused.isClosed);
    assert.ok(performance.now() - begun > 2_500, "closed after keepAliveTimeout");
    assert.equal(unused.isAnswering, false, "without a word");
  });

  test(`${runtime.name}: keepAliveTimeout: 0 is for ever, on a moved connection too`, async (t) => {
    const server = { keepAliveTimeout: 0, ...shortHeaders };
    const { program, first, target } = await startServer(t, runtime, { kind: "http", server });
    const [unused, busy] = [await openConnection(target), await openConnection(target)];
    for (const connection of [unused, busy]) {
      connection.write(GET);
      await connection.answer();
    }
    program.signal(first);
    await program.report("connections-move");
    busy.write(SLOW);
    await busy.answer();
    unused.write(GET);
    assert.equal((await unused.answer()).headers.get("x-generation"), "1");
  });

  test(`${runtime.name}: moved connections are counted, and are among maxConnections`, async (t) => {
    const program = startProgram(t, runtime, {
      script: fixture("connections.ts"),
      env: { MOST: "4" },
    });
    const first = await program.report("serving");
    const target = { port: first.port as number };
    const connections = await Promise.all(Array.from({ length: 4 }, () => openConnection(target)));
    const ask = async (i: number) => {
      connections[i]?.write(GET);
      return (await connections[i]?.answer())?.body;
    };
    await until("all to be accepted", async () => await ask(0) === "4");
    program.signal(first);
    const { moved, left } = await program.report("connections-move");
    assert.deepEqual({ moved, left }, { moved: 4, left: 0 });
    // On Bun they are taken in a few at a time, and each is served at once.
    await until("all to be counted", async () => await ask(0) === "4");
    const more = await openConnection(target);
    await until("a connection too many to be closed", () => more.isClosed);
    connections.pop()?.close();
    await until("the closed one to be counted no more", async () => await ask(0) === "3");
    connections.push(await openConnection(target));
    assert.equal(await ask(3), "4");
  });

  test(`${runtime.name}: a server sees the address of the client on a moved connection`, async (t) => {
    const program = startProgram(t, runtime, {
      script: fixture("connections.ts"),
      env: { MOST: "4" },
    });
    const first = await program.report("serving");
    const connections = await Promise.all(
      [0, 1].map(() => openConnection({ port: first.port as number })),
    );
    const ask = (connection: Connection) => {
      connection.write(GET);
      return connection.answer();
    };
    const addresses: (string | undefined)[] = [];
    for (const connection of connections) {
      addresses.push((await ask(connection)).headers.get("x-client"));
    }
    assert.match(addresses.join(), /^127\.0\.0\.1 \d+,127\.0\.0\.1 \d+$/);
    program.signal(first);
    assert.equal((await program.report("connections-move")).moved, 2);
    for (const [i, connection] of connections.entries()) {
      const { headers } = await ask(connection);
      assert.deepEqual([headers.get("x-generation"), headers.get("x-client")], ["1", addresses[i]]);
    }
  });

  test(`${runtime.name}: a moved connection that sends only a part of a head is closed after headersTimeout`, async (t) => {
    const server = { keepAliveTimeout: 60_000, ...shortHeaders };
    const { program, first, target } = await startServer(t, runtime, { kind: "http", server });
    const connection = await openConnection(target);
    connection.write(GET);
    await connection.answer();
    program.signal(first);
    await program.report("connections-move");
    connection.write(GET.slice(0, 10));
    await assert.rejects(connection.answer(), /an answer without a length/); // That is 408.
    await until("the connection to be closed", () => connection.isClosed);
  });
}
