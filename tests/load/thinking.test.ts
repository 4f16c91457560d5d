/**
 * The clients that think notice each way to fail, ask once, and count the connections that they
 * make.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { test } from "node:test";
import { cleanUp, type TestScope } from "../support/clean_up.ts";
import { freePort } from "../support/port.ts";
import { until } from "../support/wait.ts";
import type { Target } from "./http1.ts";
import { describeThinking, failed, startThinking } from "./thinking.ts";
import { parsePath, pattern } from "./pattern.ts";

/** A server that does something to each request. Requests are numbered on each connection. */
async function serving(
  t: TestScope,
  act: (socket: Socket, answer: string, nth: number) => void,
): Promise<{ target: Target; readonly requests: number; readonly connections: number }> {
  const sockets: Socket[] = [];
  let requests = 0;
  const server = createServer({ noDelay: true }, (socket) => {
    sockets.push(socket);
    let received = "";
    let nth = 0;
    socket.setEncoding("latin1").on("error", () => {}).on("data", (data) => {
      received += data;
      const head = received.indexOf("\r\n\r\n") + 4;
      if (head < 4) return;
      const length = Number(/Content-Length: (\d+)/.exec(received.slice(0, head))?.[1] ?? 0);
      if (received.length < head + length) return;
      const { seed, size } = parsePath(received.split(" ")[1] as string);
      const body = received.startsWith("POST")
        ? received.slice(head, head + length)
        : pattern(seed, size);
      received = "";
      requests++;
      act(
        socket,
        `HTTP/1.1 200 OK\r\nX-Generation: 3\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
        ++nth,
      );
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  cleanUp(t, () => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return {
    target: { port: (server.address() as AddressInfo).port },
    get requests() {
      return requests;
    },
    get connections() {
      return sockets.length;
    },
  };
}

const QUICK = { least: 1, most: 10 };

test("clients that are answered keep their connections", async (t) => {
  const server = await serving(t, (socket, answer) => socket.write(answer));
  const thinking = startThinking(server.target, 5, { ...QUICK, unread: true });
  await until("a hundred requests", () => server.requests > 100);
  assert.equal(thinking.answeredBy(3), 5);
  assert.equal(thinking.answeredBy(2), 0);
  const tally = await thinking.stop();
  assert.equal(failed(tally.failures), 0, describeThinking(tally));
  assert.deepEqual([tally.requests, tally.connections], [server.requests, 5]);
  assert.ok(tally.longest > 0);
});

// An empty body is the same with other bytes: so none is empty where bytes are changed.
const ways: Record<string, (socket: Socket, answer: string) => void> = {
  "ECONNRESET": (socket) => socket.resetAndDestroy(),
  "closed without an answer": (socket) => socket.destroy(),
  "truncated answer: closed without an answer": (socket, answer) => socket.end(answer.slice(0, 20)),
  "truncated answer: ECONNRESET": (socket, answer) =>
    socket.write(answer.slice(0, 20), () => socket.resetAndDestroy()),
  "wrong bytes": (socket, answer) => socket.write(answer.replace(/\r\n\r\n[^]/, "\r\n\r\n!")),
  "status 503": (socket, answer) => socket.write(answer.replace("200", "503")),
  "more bytes than an answer": (socket, answer) => socket.write(`${answer}HTTP/1.1`),
};

for (const [kind, fail] of Object.entries(ways)) {
  test(`a failure is counted once, by its kind: ${kind}`, async (t) => {
    const server = await serving(
      t,
      (socket, answer, nth) => nth < 3 ? socket.write(answer) : fail(socket, answer),
    );
    const thinking = startThinking(server.target, 3, QUICK);
    await until("each to fail several times", () => (thinking.tally.failures.get(kind) ?? 0) > 9);
    const tally = await thinking.stop();
    assert.deepEqual([...tally.failures.keys()], [kind]);
    // Every third request on a connection fails; it is not sent again, and the next one has another
    // connection.
    const failures = failed(tally.failures);
    assert.equal(tally.requests, server.requests);
    assert.ok(
      tally.connections >= failures && tally.connections <= failures + 3,
      describeThinking(tally),
    );
  });
}

test("a connection that the server closes between two requests is replaced, and that is counted", async (t) => {
  const closing = await serving(t, (socket, answer) => socket.end(answer));
  const saying = await serving(
    t,
    (socket, answer) => socket.write(answer.replace("\r\n", "\r\nConnection: close\r\n")),
  );
  // Each closes at once, and the clients think for longer than that takes.
  const both = [closing, saying].map(({ target }) =>
    startThinking(target, 3, { least: 50, most: 60 })
  );
  await until("some requests", () => closing.requests > 20 && saying.requests > 20);
  for (const tally of await Promise.all(both.map((thinking) => thinking.stop()))) {
    assert.equal(failed(tally.failures), 0, describeThinking(tally));
    assert.ok(tally.connections >= tally.requests, describeThinking(tally));
  }
});

test("a server that is not there fails each request", async () => {
  const thinking = startThinking({ port: await freePort() }, 3, QUICK);
  await until("some failures", () => (thinking.tally.failures.get("ECONNREFUSED") ?? 0) > 9);
  const { connections, requests, failures } = await thinking.stop();
  assert.deepEqual([connections, requests], [0, failed(failures)]);
});
