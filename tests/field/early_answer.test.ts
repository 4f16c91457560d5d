/**
 * A request that is answered before its body has come, as one that is refused, keeps its answer
 * while the server drains.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { certificate } from "../fixtures/certificate.ts";
import { type Connection, openConnection } from "../load/http1.ts";
import { startServer } from "../load/rows.ts";
import { isAlive } from "../support/proc.ts";
import { runtimes } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";

const GET = "GET /1/10/1/0 HTTP/1.1\r\nHost: test\r\n\r\n";
const SIZE = 3_000_000;
/** The fixture answers it at once, and does not read its body. */
const EARLY = `PUT /1/10/1/0 HTTP/1.1\r\nHost: test\r\nContent-Length: ${SIZE}\r\n\r\n`;
const POST = "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 6\r\n\r\n";
const COUNT = 12;

for (const runtime of runtimes) {
  for (
    const kind of [
      "http",
      "https",
      ...runtime.servers.filter((kind) => kind === "native"),
    ] as const
  ) {
    test(`${runtime.name}: ${kind}: a large body that nobody reads costs no answer`, async (t) => {
      const { program, first, target } = await startServer(t, runtime, {
        kind,
        ...(kind === "https" && { tls: certificate }),
        ...(kind !== "native" && { bind: { moveIdle: false } }),
        ...(kind === "native" && { options: { probation: 5_000, idleGrace: 5_000 } }),
      });
      const connections = await Promise.all(
        Array.from({ length: COUNT }, () => openConnection(target)),
      );
      const ask = async (connection: Connection, request: string) => {
        connection.write(request);
        return await connection.answer();
      };
      await Promise.all(connections.map((connection) => ask(connection, GET)));
      program.signal(first);
      // A bound server drains when its token is cancelled, a native one from the commit on.
      await program.report(kind === "native" ? "in-charge" : "cancel");
      await Promise.all(connections.map(async (connection) => {
        connection.write(EARLY);
        for (let sent = 0; sent < SIZE; sent += 50_000) connection.write("x".repeat(50_000));
        const { status, headers } = await connection.answer();
        assert.deepEqual([status, headers.get("x-generation")], [200, "0"]);
      }));
      if (kind === "native") return;
      await until("the old process to be gone", () => !isAlive(first.pid));
    });
  }

  test(`${runtime.name}: a request whose body was read is answered with Connection: close`, async (t) => {
    const { program, first, target } = await startServer(t, runtime, {
      kind: "http",
      bind: { moveIdle: false },
    });
    const [whole, slow] = await Promise.all([openConnection(target), openConnection(target)]);
    for (const connection of [whole, slow]) {
      connection.write(GET);
      await connection.answer();
    }
    program.signal(first);
    await program.report("cancel");
    slow.write(`${POST}abc`);
    whole.write(`${POST}abcdef`);
    const answers = [await whole.answer()];
    slow.write("def");
    answers.push(await slow.answer());
    for (const { headers, body } of answers) {
      assert.equal(body, "abcdef");
      assert.equal(headers.get("connection")?.toLowerCase(), "close");
    }
  });
}
