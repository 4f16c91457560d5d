/**
 * Which connections count as idle: they move at a reload, or are closed when the server is drained.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { certificate } from "../fixtures/certificate.ts";
import { openConnection } from "../load/http1.ts";
import { startServer } from "../load/rows.ts";
import { isAlive } from "../support/proc.ts";
import { runtimes } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";

/** Requests that have bodies: the fixture reads that of a POST, and leaves that of a GET unread. */
const withBodies = {
  "a length": "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 6\r\n\r\nabcdef",
  "chunks":
    "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n",
  "a length, unread": "GET /1/10/1/0 HTTP/1.1\r\nHost: test\r\nContent-Length: 6\r\n\r\nabcdef",
  "chunks, unread":
    "GET /1/10/1/0 HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n",
};

for (const runtime of runtimes) {
  test(`${runtime.name}: connections whose last request had a body move`, async (t) => {
    const { program, first, target } = await startServer(t, runtime, { kind: "http" });
    const texts = Object.values(withBodies).flatMap((text) =>
      Array.from({ length: 5 }, () => text)
    );
    const connections = await Promise.all(texts.map(() => openConnection(target)));
    await Promise.all(connections.map(async (connection, i) => {
      connection.write(texts[i] as string);
      assert.equal((await connection.answer()).status, 200);
    }));
    program.signal(first);
    const { moved, left } = await program.report("connections-move");
    assert.deepEqual({ moved, left }, { moved: texts.length, left: 0 });
    for (const connection of connections) {
      connection.write("GET /1/10/1/0 HTTP/1.1\r\nHost: test\r\n\r\n");
      assert.equal((await connection.answer()).headers.get("x-generation"), "1");
    }
  });
}

const GET = "GET /1/10/1/0 HTTP/1.1\r\nHost: test\r\n\r\n";

for (const runtime of runtimes) {
  for (const kind of ["http", "https"] as const) {
    test(`${runtime.name}: ${kind}: a request whose head comes in two pieces is answered while the server drains`, async (t) => {
      const { program, first, target } = await startServer(t, runtime, {
        kind,
        ...(kind === "https" && { tls: certificate }),
        bind: { moveIdle: false },
        // Less than keepAliveTimeout, after which node itself closes a connection in the middle of
        // a head.
        options: { idleGrace: 1_000 },
      });
      const fresh = await openConnection(target);
      const used = await openConnection(target);
      used.write(GET);
      await used.answer();
      for (const connection of [fresh, used]) connection.write(GET.slice(0, 20));
      // Asked last, it is read last; and as an idle one it is closed last.
      const idle = await openConnection(target);
      idle.write(GET);
      await idle.answer();
      program.signal(first);
      await until("the idle connection to be closed", () => idle.isClosed);
      for (const connection of [fresh, used]) {
        connection.write(GET.slice(20));
        const { headers } = await connection.answer();
        assert.equal(headers.get("x-generation"), "0");
        assert.equal(headers.get("connection")?.toLowerCase(), "close");
      }
      await until("the old process to be gone", () => !isAlive(first.pid));
    });
  }
}
