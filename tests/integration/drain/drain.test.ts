/** How a process finishes its connections. */
import assert from "node:assert/strict";
import { connect, type Socket } from "node:net";
import { test } from "node:test";
import { certificate } from "../../fixtures/certificate.ts";
import { openConnection } from "../../load/http1.ts";
import { pattern } from "../../load/pattern.ts";
import { startServer } from "../../load/rows.ts";
import { cleanUp } from "../../support/clean_up.ts";
import { isAlive } from "../../support/proc.ts";
import { runtimes } from "../../support/runtimes.ts";
import { until } from "../../support/wait.ts";

const GET = "GET /1/10/1/0 HTTP/1.1\r\nHost: test\r\n\r\n";

/**
 * Servers with TLS: their idle connections do not move. Those of a runtime's own that share their
 * port do not move, either.
 */
const secure = (kind: "http" | "adopted" | "native") =>
  kind === "http"
    ? { kind: "https" as const, tls: certificate }
    : kind === "adopted"
    ? { kind, tls: certificate }
    : { kind };

for (const runtime of runtimes) {
  for (const kind of runtime.servers) {
    test(`${runtime.name}: ${kind}: an idle connection has one more request answered, with Connection: close`, async (t) => {
      const { program, first, target } = await startServer(t, runtime, {
        ...secure(kind),
        options: { probation: 2_000, idleGrace: 6_000 },
      });
      const connection = await openConnection(target);
      connection.write(GET);
      assert.equal(
        (await connection.answer()).headers.get("connection")?.toLowerCase() ?? "keep-alive",
        "keep-alive",
      );
      program.signal(first);
      // A bound server drains when its token is cancelled, a native one has the probation before
      // that.
      await program.report(kind === "http" ? "cancel" : "successor-in-charge");
      connection.write(GET);
      const answer = await connection.answer();
      assert.equal(answer.headers.get("connection")?.toLowerCase(), "close");
      assert.equal(
        answer.headers.get("x-generation"),
        "0",
        "by the process that it was connected to",
      );
      await until("the connection to be closed", () => connection.isClosed);
    });

    test(`${runtime.name}: ${kind}: a request under way is answered to its end`, async (t) => {
      const { program, first, target } = await startServer(t, runtime, {
        kind,
        options: { probation: 50, idleGrace: 50 },
      });
      const connection = await openConnection(target);
      connection.write("GET /7/5000/20/50 HTTP/1.1\r\nHost: test\r\n\r\n");
      const answer = connection.answer();
      program.signal(first);
      await program.report("in-charge");
      assert.equal((await answer).body, pattern(7, 5000));
      connection.close();
      await until("the old process to be gone", () => !isAlive(first.pid));
    });
  }

  test(`${runtime.name}: idle connections are closed after the probation, and with them the process ends`, async (t) => {
    const { program, first, target } = await startServer(t, runtime, {
      ...secure("http"),
      options: { probation: 300, idleGrace: 300 },
    });
    const connection = await openConnection(target);
    connection.write(GET);
    await connection.answer();
    program.signal(first);
    await program.report("cancelled");
    const begun = performance.now();
    await until("the connection to be closed", () => connection.isClosed);
    assert.ok(performance.now() - begun >= 200, "it had time for one more request");
    const { drained } = await program.report("drained");
    assert.equal(drained.complete, true);
    await until("the old process to be gone", () => !isAlive(first.pid));
    assert.equal(program.reports.some(({ type }) => type === "drain-cut"), false);
  });

  test(`${runtime.name}: a connection without a request yet is not taken for idle`, async (t) => {
    const { program, first, target } = await startServer(t, runtime, {
      ...secure("http"),
      options: { probation: 50, idleGrace: 50 },
    });
    const connection = await openConnection(target);
    program.signal(first);
    await program.report("cancelled");
    // Ten times as long as an idle one has.
    await new Promise((resolve) => setTimeout(resolve, 500));
    assert.equal(connection.isClosed, false);
    connection.write(GET);
    assert.equal((await connection.answer()).headers.get("x-generation"), "0");
  });

  test(`${runtime.name}: drainTimeout cuts what is left, and reports how much that was`, async (t) => {
    const { program, first, target } = await startServer(t, runtime, {
      kind: "net",
      options: { probation: 50, idleGrace: 50, drainTimeout: 400 },
    });
    const sockets: Socket[] = [];
    for (let i = 0; i < 3; i++) {
      const socket = connect(target.port as number, "127.0.0.1");
      socket.on("error", () => {});
      cleanUp(t, () => socket.destroy());
      socket.write("x");
      await new Promise((resolve) => socket.once("data", resolve));
      sockets.push(socket);
    }
    program.signal(first);
    const cut = await program.report("drain-cut");
    assert.equal(cut.connections, 3);
    assert.equal(cut.milliseconds, 400);
    await until("the connections to be closed", () => sockets.every((socket) => socket.closed));
    await until("the old process to be gone", () => !isAlive(first.pid));
    const [socket] = sockets;
    assert.ok(socket);
  });

  test(`${runtime.name}: SIGTERM drains as a reload does`, async (t) => {
    const { program, first, target } = await startServer(t, runtime, {
      kind: "http",
      options: { probation: 50, idleGrace: 50 },
    });
    const connection = await openConnection(target);
    connection.write("GET /7/5000/10/50 HTTP/1.1\r\nHost: test\r\n\r\n");
    const answer = connection.answer();
    program.signal(first, "SIGTERM");
    await program.report("cancelled");
    assert.equal((await answer).body, pattern(7, 5000));
    await until("the process to be gone", () => !isAlive(first.pid));
  });

  if (runtime.kind === "node") continue;
  test(`${runtime.name}: an adopted server finishes an upload that begins after SIGTERM, on a connection that it had`, async (t) => {
    const { program, first, target } = await startServer(t, runtime, { kind: "adopted" });
    const [kept, other] = [await openConnection(target), await openConnection(target)];
    kept.write("GET /7/10/1/0 HTTP/1.1\r\nHost: test\r\n\r\n");
    assert.equal((await kept.answer()).body, pattern(7, 10));
    other.write("GET /7/5000/10/50 HTTP/1.1\r\nHost: test\r\n\r\n");
    await until("the answer to begin", () => other.isAnswering);
    program.signal(first, "SIGTERM");
    await program.report("cancelled");
    kept.write("POST /7/10/1/0 HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\nfirst");
    assert.equal((await other.answer()).body, pattern(7, 5000));
    kept.write("after");
    const { status, body } = await kept.answer();
    assert.deepEqual([status, body], [200, "firstafter"]);
    await until("the process to be gone", () => !isAlive(first.pid));
  });
}
