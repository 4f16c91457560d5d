/** The relay delays, keeps the order, and passes each way to end on as it is. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { test } from "node:test";
import { createServer as createTlsServer } from "node:tls";
import { certificate } from "../fixtures/certificate.ts";
import { cleanUp, type TestScope } from "../support/clean_up.ts";
import { freePort } from "../support/port.ts";
import { until } from "../support/wait.ts";
import { openConnection, type Target } from "./http1.ts";
import { type Relay, type RelayOptions, startRelay } from "./relay.ts";

interface Pair {
  readonly relay: Relay;
  readonly client: Socket;
  readonly server: Socket;
}

async function listening(t: TestScope, server: Server): Promise<Target> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  cleanUp(t, () => server.close());
  return { port: (server.address() as AddressInfo).port };
}

/** A connection through a relay, both ends of it. Neither ends because the other does. */
async function connected(t: TestScope, options?: RelayOptions): Promise<Pair> {
  const listener = createServer({ allowHalfOpen: true, noDelay: true });
  const relay = await startRelay(t, await listening(t, listener), options);
  const accepted = once(listener, "connection");
  const client = connect({
    port: relay.target.port,
    host: "127.0.0.1",
    allowHalfOpen: true,
    noDelay: true,
  });
  const [server] = await accepted as [Socket];
  cleanUp(t, () => [client, server].forEach((socket) => socket.destroy()));
  return { relay, client, server };
}

/** Both directions of a pair. */
const directions = ["to the server", "to the client"] as const;
const ends = (
  { client, server }: Pair,
  direction: typeof directions[number],
): [from: Socket, to: Socket] =>
  direction === "to the server" ? [client, server] : [server, client];

for (const direction of directions) {
  test(`${direction}: nothing comes before its delay, and all of it in its order`, async (t) => {
    const pair = await connected(t, { toServer: 15, toClient: 25 });
    const [from, to] = ends(pair, direction);
    const least = direction === "to the server" ? 15 : 25;
    const sent: number[] = [];
    const early: number[] = [];
    let received = "";
    to.setEncoding("latin1").on("data", (data) => {
      received += data;
      // Each number was sent at a time of its own.
      for (const number of received.split(" ").slice(0, -1).slice(early.length).map(Number)) {
        early.push(performance.now() - (sent[number] as number));
      }
    });
    const count = 300;
    for (let i = 0; i < count; i++) {
      sent.push(performance.now());
      from.write(`${i} `);
      if (i % 3 === 0) await new Promise((resolve) => setTimeout(resolve, i % 5));
    }
    await until("all to come", () => early.length === count);
    assert.equal(received, Array.from({ length: count }, (_, i) => `${i} `).join(""));
    assert.ok(Math.min(...early) >= least, `after ${Math.min(...early)} ms`);
  });

  test(`${direction}: more than the buffers hold comes whole, and a reader that is slow holds the writer back`, async (t) => {
    const pair = await connected(t, { toServer: 1, toClient: 1 });
    const [from, to] = ends(pair, direction);
    const data = Buffer.alloc(64 * 2 ** 20, "0123456789");
    to.pause();
    let taken = 0;
    const writing = (async () => {
      while (taken < data.length) {
        const chunk = data.subarray(taken, taken + 65_536);
        if (!from.write(chunk)) await once(from, "drain");
        taken += chunk.length;
      }
      from.end();
    })();
    let before = 0;
    let same = 0;
    await until("nothing more to be taken", () => {
      same = taken === before ? same + 1 : 0;
      before = taken;
      return same === 40;
    });
    assert.ok(taken < data.length / 2, `${taken} bytes are on the way`);
    let length = 0;
    to.on("data", (chunk: Buffer) => {
      if (!chunk.equals(data.subarray(length, length + chunk.length))) length = NaN;
      else length += chunk.length;
    });
    to.resume();
    await Promise.all([writing, once(to, "end")]);
    assert.equal(length, data.length);
  });

  test(`${direction}: a FIN is a FIN, behind what was sent before, and the other direction goes on`, async (t) => {
    const pair = await connected(t);
    const [from, to] = ends(pair, direction);
    let received = "";
    to.setEncoding("latin1").on("data", (data) => received += data);
    const begun = performance.now();
    from.end("last words");
    await once(to, "end");
    assert.ok(performance.now() - begun >= 10);
    assert.equal(received, "last words");
    assert.equal(pair.relay.open, 1);
    to.write("and ");
    to.end("an answer");
    let answer = "";
    for await (const data of from) answer += data;
    assert.equal(answer, "and an answer");
    await until(
      "both to be closed",
      () => pair.relay.open === 0 && pair.client.closed && pair.server.closed,
    );
  });

  test(`${direction}: a reset is a reset, behind what was sent before`, async (t) => {
    const pair = await connected(t);
    const [from, to] = ends(pair, direction);
    let received = "";
    to.setEncoding("latin1").on("data", (data) => received += data);
    from.write("last words");
    await until("that to come", () => received === "last words");
    let reset: NodeJS.ErrnoException | undefined;
    to.on("error", (error) => reset = error);
    from.on("error", () => {});
    const begun = performance.now();
    from.resetAndDestroy();
    await until("a reset", () => reset);
    assert.equal(reset?.code, "ECONNRESET");
    assert.ok(performance.now() - begun >= 10);
    assert.equal(received, "last words");
    await until("nothing to be open", () => pair.relay.open === 0);
  });
}

test("what crosses a close of the server's on the wire is answered with a reset", async (t) => {
  const { client, server, relay } = await connected(t);
  const ends: string[] = [];
  client.on("end", () => ends.push("FIN")).on(
    "error",
    ({ code }: NodeJS.ErrnoException) => ends.push(code as string),
  ).resume();
  client.write("a request");
  server.destroy(); // It has not been read: the connection was idle for the server.
  // Whoever has read a FIN is told of a reset by the next write only.
  await until("a reset", () => ends.length > 1 || void client.write("another"));
  assert.equal(ends[0], "FIN");
  assert.ok(["ECONNRESET", "EPIPE"].includes(ends[1] as string), ends[1]);
  await until("nothing to be open", () => relay.open === 0);
});

test("a server that is not there resets the connection", async (t) => {
  const relay = await startRelay(t, { port: await freePort() });
  const client = connect(relay.target.port, "127.0.0.1");
  cleanUp(t, () => client.destroy());
  let reset: NodeJS.ErrnoException | undefined;
  client.on("error", (error) => reset = error);
  await until("a reset", () => reset);
  assert.equal(reset?.code, "ECONNRESET");
  await until("nothing to be open", () => relay.open === 0);
  assert.equal(relay.accepted, 1);
});

test("TLS passes through", async (t) => {
  const server = createTlsServer({ ...certificate, ALPNProtocols: ["http/1.1"] }, (socket) => {
    socket.on("error", () => {});
    socket.once("data", () => socket.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nsafe"));
  });
  const relay = await startRelay(t, { ...await listening(t, server), tls: true });
  const begun = performance.now();
  const connection = await openConnection(relay.target);
  cleanUp(t, () => connection.close());
  connection.write("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
  assert.equal((await connection.answer()).body, "safe");
  // Two ways for the handshake, and two for the request.
  assert.ok(performance.now() - begun >= 40);
});
