/**
 * Connections of Bun.serve and Deno.serve go on in the next process. All options have their
 * defaults.
 */
import assert from "node:assert/strict";
import { connect as connectHttp2 } from "node:http2";
import { connect, type Socket } from "node:net";
import { test } from "node:test";
import { type Connection, openConnection } from "../../load/http1.ts";
import { cleanUp, type TestScope } from "../../support/clean_up.ts";
import { isAlive } from "../../support/proc.ts";
import { leaveDescriptors } from "../../support/limits.ts";
import { fixture, type Program, reload, startProgram } from "../../support/program.ts";
import { type Runtime, runtimes, stableFlags } from "../../support/runtimes.ts";
import { until } from "../../support/wait.ts";

/** Starts the fixture; on Deno without --unstable-net. */
function start(t: TestScope, runtime: Runtime, env: Record<string, string> = {}): Program {
  const flags = stableFlags(runtime);
  return startProgram(t, runtime, { script: fixture("adopted.ts"), flags, env });
}

async function open(t: TestScope, port: number): Promise<Connection> {
  const connection = await openConnection({ port });
  cleanUp(t, () => connection.close());
  return connection;
}

async function ask(connection: Connection, request = "GET / HTTP/1.1\r\nHost: test\r\n\r\n") {
  const answer = connection.answer();
  connection.write(request);
  const { headers, body } = await answer;
  return {
    generation: Number(headers.get("x-generation")),
    client: headers.get("x-client"),
    headers,
    body,
  };
}

/** A connection of which only the text that comes is of interest. */
function send(
  t: TestScope,
  port: number,
  text: string,
): { readonly socket: Socket; readonly received: string } {
  const socket = connect(port, "127.0.0.1");
  cleanUp(t, () => socket.destroy());
  let received = "";
  socket.setEncoding("latin1").on("data", (data) => received += data).on("error", () => {});
  socket.write(text);
  return {
    socket,
    get received() {
      return received;
    },
  };
}

const POST = "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhello";

for (const runtime of runtimes.filter(({ servers }) => servers.includes("adopted"))) {
  test(`${runtime.name}: 100 idle connections go on in the next generations, and a handler sees their clients`, async (t) => {
    const program = start(t, runtime);
    let current = await program.report("serving");
    const [port] = current.ports;
    const connections = await Promise.all(Array.from({ length: 100 }, () => open(t, port)));
    const clients = await Promise.all(
      connections.map(async (connection) => (await ask(connection)).client),
    );
    assert.equal(new Set(clients).size, 100);
    for (const generation of [1, 2, 3]) {
      current = await reload(program, current);
      const { moved, left } = await program.report("connections-move", {
        generation: generation - 1,
      });
      assert.deepEqual({ moved, left }, { moved: 100, left: 0 });
      for (const [i, connection] of connections.entries()) {
        const text = i % 2 === 0 ? POST : undefined;
        const { headers, body, ...rest } = await ask(connection, text);
        assert.deepEqual(rest, { generation, client: clients[i] });
        assert.equal(headers.get("connection") ?? "keep-alive", "keep-alive");
        if (text !== undefined) assert.equal(body, "hello");
      }
    }
  });

  test(`${runtime.name}: connections that the new process cannot take are answered by the old one`, async (t) => {
    const program = start(t, runtime);
    const current = await program.report("serving");
    const [port] = current.ports;
    const connections = await Promise.all(Array.from({ length: 20 }, () => open(t, port)));
    for (const connection of connections) await ask(connection);
    program.signal(current);
    const next = await program.report("serving", { generation: 1 });
    leaveDescriptors(next.pid, 70); // It leaves 64 to the program.
    await program.report("reload-end");
    const { moved, left } = await program.report("connections-move", { generation: 0 });
    assert.equal(moved + left, 20);
    assert.ok(left > 10);
    let old = 0;
    for (const connection of connections) if ((await ask(connection)).generation === 0) old++;
    assert.equal(old, left);
    await until("the old process to be gone", () => !isAlive(current.pid));
  });

  test(`${runtime.name}: what is under way is finished by the old process: a stream, a handler, an upload, half a head`, async (t) => {
    const program = start(t, runtime);
    const current = await program.report("serving");
    const [port] = current.ports;
    const stream = send(t, port, "GET /stream HTTP/1.1\r\nHost: test\r\n\r\n");
    const slow = send(t, port, "GET /slow HTTP/1.1\r\nHost: test\r\n\r\n");
    const upload = send(t, port, "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhe");
    const expecting = send(
      t,
      port,
      "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
    );
    await until("the stream to begin", () => /begin/.test(stream.received));
    await until("the server to ask for a body", () => /^HTTP\/1.1 100/.test(expecting.received));
    const half = send(t, port, "GET / HTTP/1.1\r\nHos");
    await ask(await open(t, port)); // What was sent before is read when this is answered.
    program.signal(current);
    await program.report("reload-end");
    half.socket.write("t: test\r\n\r\n");
    upload.socket.write("llo");
    expecting.socket.write("hello");
    for (const one of [half, upload, expecting]) {
      await until(
        "its answer",
        () => /x-generation: 0/i.test(one.received.replace(/^HTTP\/1.1 100.*?\r\n\r\n/s, "")),
      );
    }
    program.signal(current, "SIGUSR2");
    await until("the stream to end", () => /begin.*end.*\r\n0\r\n/s.test(stream.received));
    await until("the handler's answer", () => /x-generation: 0/i.test(slow.received));
    assert.match(upload.received, /hello$/);
    await until("the old process to be gone", () => !isAlive(current.pid));
  });

  test(`${runtime.name}: a client that asks without a pause keeps its connection`, async (t) => {
    const program = start(t, runtime);
    let current = await program.report("serving");
    const connection = await open(t, current.ports[0]);
    let isOver = false;
    const seen: number[] = [];
    const asking = (async () => {
      for (let i = 0; !isOver; i++) {
        seen.push((await ask(connection, i % 2 ? POST : undefined)).generation);
      }
    })();
    for (const generation of [1, 2]) {
      current = await reload(program, current);
      await until(`generation ${generation} to answer it`, () => seen.at(-1) === generation);
    }
    isOver = true;
    await asking;
    assert.deepEqual(
      seen,
      [...seen].sort((a, b) => a - b),
      "a generation answers after the next one has",
    );
  });
}

for (const runtime of runtimes.filter(({ kind }) => kind === "bun")) {
  test(`${runtime.name}: a connection that has moved has the idleTimeout of its server`, async (t) => {
    const OPTIONS = JSON.stringify({ probation: 200 });
    const program = start(t, runtime, { IDLE_TIMEOUT: "2", OPTIONS });
    const current = await program.report("serving");
    const [port] = current.ports;
    const moved = await open(t, port);
    await ask(moved);
    await reload(program, current);
    assert.equal((await program.report("connections-move")).moved, 1);
    const fresh = await open(t, port);
    await ask(fresh);
    await until("the other connection to be closed", () => fresh.isClosed);
    const begun = performance.now();
    // Bun looks every four seconds. One that has not asked is closed after ten.
    await until("the one that has moved to be closed", () => moved.isClosed);
    assert.ok(performance.now() - begun < 4_000);
  });
}

for (const runtime of runtimes.filter(({ kind }) => kind === "deno")) {
  test(`${runtime.name}: HTTP/2 without TLS does not move, and its requests are answered`, async (t) => {
    const program = start(t, runtime);
    const current = await program.report("serving");
    const session = connectHttp2(`http://127.0.0.1:${current.ports[0]}`);
    cleanUp(t, () => session.destroy());
    const get = () =>
      new Promise<number>((resolve, reject) => {
        const stream = session.request({ ":path": "/" });
        stream.on("response", (headers) => resolve(Number(headers["x-generation"]))).on(
          "error",
          reject,
        ).resume();
      });
    assert.equal(await get(), 0);
    let isAway = false;
    session.on("goaway", () => isAway = true);
    const asked = program.report("successor-in-charge").then(get);
    program.signal(current);
    assert.equal(await asked, 0);
    await until("the old process to say that it goes", () => isAway || session.closed);
  });
}
