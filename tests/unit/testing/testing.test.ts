/** The token for programs' own tests, with real servers. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, get } from "node:http";
import { type AddressInfo, connect, createServer as createNetServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { Worker } from "node:worker_threads";
import { ReloadError } from "../../../mod.ts";
import { createTestToken, type TestToken, type TestTokenOptions } from "../../../testing.ts";
import { cleanUp, type TestScope } from "../../support/clean_up.ts";

const portOf = (server: { address(): unknown }) => (server.address() as AddressInfo).port;
const quiet = { logger: { info() {}, warn() {}, error() {} } };

/** A token that is disposed of at the end of a test. Node 22 knows no `await using`. */
function createFor(t: TestScope, options?: TestTokenOptions): TestToken {
  const test = createTestToken(options);
  cleanUp(t, () => test[Symbol.asyncDispose]());
  return test;
}

/** One request over a connection of its own: the body, and the header Connection. */
function ask(port: number, path = "/"): Promise<[body: string, connection: string | undefined]> {
  return new Promise((resolve, reject) => {
    get({ port, path, host: "127.0.0.1", agent: false }, (response) => {
      let body = "";
      response.on("data", (data) => body += data);
      response.on("end", () => resolve([body, response.headers.connection]));
    }).on("error", reject);
  });
}

test("reload: the state is saved, then the token is cancelled, and its tasks are waited for", async () => {
  const order: string[] = [];
  const end = Promise.withResolvers<void>();
  const { token, reload } = createTestToken({
    saveState: () => (order.push("state"), { at: new Date(0), left: undefined }),
    onEvent: ({ type }) => order.push(type),
  });
  token.track(end.promise, { name: "a task" });
  assert.equal(token.canReload, true);
  assert.equal(token.generation, 0);
  assert.deepEqual(await reload(), { state: { at: "1970-01-01T00:00:00.000Z" }, live: [] });
  assert.deepEqual(order, ["reload-begin", "state", "reload-end", "cancel"]);
  assert.deepEqual(token.signal.reason, { kind: "reload", pid: process.pid, generation: 1 });
  assert.deepEqual((await token.drained({ timeout: 10 })).running, ["a task"]);
  end.resolve();
  assert.equal((await token.drained()).complete, true);
});

test("the next generation inherits the state, as JSON", async (t) => {
  const first = createFor(t);
  assert.equal(await first.token.inheritedState, undefined);
  const second = createFor(t, { inheritedState: { visits: 3, gone: undefined } });
  assert.equal(second.token.generation, 1);
  assert.deepEqual(await second.token.inheritedState, { visits: 3 });
  const eighth = createFor(t, { generation: 7 });
  assert.equal(eighth.token.generation, 7);
  assert.equal(await eighth.token.inheritedState, undefined);
});

test("a bound server listens, finishes its request when it is reloaded, and stops", async () => {
  const { token, ready, reload } = createTestToken();
  const asked = Promise.withResolvers<void>();
  const server = createServer(async (request, response) => {
    if (request.url === "/slow") {
      asked.resolve();
      await token.cancelled();
    }
    response.end("answered");
  });
  await token.bind(server, { port: 0, host: "127.0.0.1" });
  await ready;
  const port = portOf(server);
  assert.equal((await ask(port))[0], "answered");
  const slow = ask(port, "/slow");
  await asked.promise;
  await reload();
  assert.deepEqual(await slow, ["answered", "close"]);
  assert.equal((await token.drained()).complete, true);
  await assert.rejects(ask(port));
});

test(
  "a unix socket is served while the program runs",
  { skip: process.platform === "win32" },
  async (t) => {
    const folder = mkdtempSync(join(tmpdir(), "reload-self-"));
    const path = join(folder, "app.sock");
    const { token, shutdown } = createTestToken();
    await token.bind(createNetServer((socket) => socket.end("hello")), { path });
    const text = await new Promise((resolve) =>
      connect(path).on("data", (data) => resolve(String(data)))
    );
    assert.equal(text, "hello");
    assert.match(await token.path(join(folder, "other.sock")), /other\.sock/);
    await shutdown();
    await token.drained();
    await assert.rejects(new Promise((_, reject) => connect(path).on("error", reject)));
    const next = createFor(t); // The path that is left does not stop the next one.
    await next.token.bind(createNetServer(), { path });
    rmSync(folder, { recursive: true });
  },
);

test("a reload that fails changes nothing: by saveState, or by onReload", async (t) => {
  let failure: unknown = new TypeError("no state now");
  const saved: unknown[] = [];
  const program = createFor(t, {
    ...quiet,
    saveState() {
      if (failure instanceof TypeError) throw failure;
      return 1;
    },
    onReload(inheritance) {
      saved.push(inheritance);
      if (failure !== undefined) throw failure;
    },
  });
  const { token, reload } = program;
  const server = createServer((_, response) => response.end("as before"));
  await token.bind(server, { port: 0, host: "127.0.0.1" });
  await assert.rejects(
    reload(),
    (error) => error instanceof ReloadError && error.code === "handover" && error.cause === failure,
  );
  failure = new ReloadError("timeout", "it was slow");
  await assert.rejects(token.reload(), (error) => error === failure);
  assert.deepEqual(saved, [{ state: 1, live: [] }]);
  assert.equal(token.isCancelled, false);
  assert.equal((await ask(portOf(server)))[0], "as before");
  failure = undefined;
  const both = Promise.all([token.reload(), reload()]);
  assert.deepEqual(await both, [process.pid, { state: 1, live: [] }]);
  assert.equal(saved.length, 2);
  await assert.rejects(token.reload(), { name: "ReloadError", code: "cancelled" });
  await assert.rejects(reload(), { name: "ReloadError", code: "cancelled" });
});

test("a shutdown during a reload wins", async () => {
  const reached = Promise.withResolvers<void>();
  const goOn = Promise.withResolvers<void>();
  const { token, reload, shutdown } = createTestToken({
    ...quiet,
    onReload() {
      reached.resolve();
      return goOn.promise;
    },
  });
  const failed = assert.rejects(reload(), { code: "cancelled" });
  await reached.promise;
  await shutdown("SIGINT");
  goOn.resolve();
  await failed;
  assert.deepEqual(await token.cancelled(), { kind: "shutdown", signal: "SIGINT" });
});

test("ready: at once, by call, by promise", async (t) => {
  const first = createFor(t);
  await first.ready;
  const second = createFor(t, { ready: "manual" });
  assert.equal(
    await Promise.race([second.ready, new Promise((resolve) => setTimeout(resolve, 20, "waits"))]),
    "waits",
  );
  second.token.ready();
  await second.ready;
  const third = createFor(t, { ready: Promise.reject(new Error("no database")) });
  await assert.rejects(third.ready, { message: "no database" });
});

test("live connections: those that are let go of are closed, the others are drained", async () => {
  let fails = true;
  const served: unknown[] = [];
  const sockets: Socket[] = [];
  const { token, reload } = createTestToken({
    ...quiet,
    drainTimeout: 50,
    onReload() {
      if (fails) throw new Error("not this one");
    },
  });
  const live = token.live<{ n: number }, Socket>("numbered", {
    accept(socket, session) {
      served.push(session);
      if (!sockets.includes(socket)) sockets.push(socket);
      socket.on("data", (data) => socket.write(data));
    },
    release: (socket) => sockets.indexOf(socket) === 0 ? { n: 0 } : undefined,
  });
  const server = createNetServer(live.accept);
  await token.bind(server, { port: 0, host: "127.0.0.1" });
  const clients = [connect(portOf(server), "127.0.0.1")];
  const echo = (client: Socket | undefined, text: string) =>
    new Promise((resolve) => {
      client?.once("data", (data) => resolve(String(data)));
      client?.write(text);
    });
  await echo(clients[0], "one");
  clients.push(connect(portOf(server), "127.0.0.1"));
  await echo(clients[1], "two");
  const closed = clients.map((client) =>
    new Promise((resolve) => client.on("error", () => {}).on("close", resolve))
  );
  await assert.rejects(reload(), { code: "handover" });
  assert.equal(await echo(clients[0], "still there"), "still there");
  assert.deepEqual(served, [undefined, undefined, { n: 0 }]);
  fails = false;
  assert.deepEqual((await reload()).live, [{ name: "numbered", session: { n: 0 } }]);
  await Promise.all(closed);
  await token.drained();
});

interface Natives {
  Bun?: { serve(options: object): { port: number } };
  Deno?: { serve(options: object, handler: () => Response): { addr: { port: number } } };
}

test("adopt, fetch: native servers are drained and stopped", async () => {
  const { Bun, Deno } = globalThis as Natives;
  const { token, reload } = createTestToken();
  const isClosing: (string | null)[] = [];
  const wrapped = token.fetch(() => new Response("wrapped"));
  isClosing.push((wrapped() as Response).headers.get("connection"));
  const handler = () => new Response("native");
  let port: number | undefined;
  if (Bun !== undefined) {
    port = token.adopt(Bun.serve)({ port: 0, hostname: "127.0.0.1", fetch: handler }).port;
  } else if (Deno !== undefined) {
    const options = { port: 0, hostname: "127.0.0.1", onListen() {} };
    port = token.adopt(Deno.serve)(options, handler).addr.port;
  } else {assert.throws(() => token.adopt(() => {}), {
      name: "TypeError",
      message: /^adopt: Node has no servers of its own/,
    });}
  if (port !== undefined) assert.equal((await ask(port))[0], "native");
  await reload();
  isClosing.push((wrapped() as Response).headers.get("connection"));
  assert.deepEqual(isClosing, [null, "close"]);
  assert.equal((await token.drained()).complete, true);
  if (port !== undefined) await assert.rejects(ask(port));
});

test("webSocket: closed with 1001", async () => {
  const closed: unknown[] = [];
  const { token, shutdown } = createTestToken();
  token.webSocket({ readyState: 1, close: (...how) => closed.push(how) });
  await shutdown();
  assert.equal((closed as [number][])[0]?.[0], 1001);
});

test("listen() and the signals of the process are not touched", (t) => {
  const before = process.listenerCount("SIGHUP");
  const one = createFor(t, { pidFile: "/nowhere/there/is/none.pid" });
  const two = createFor(t);
  assert.notEqual(one.token, two.token);
  assert.equal(process.listenerCount("SIGHUP"), before);
  const registry = (globalThis as { [key: symbol]: unknown })[Symbol.for("@js0/reload-self")] as {
    listening?: unknown;
  };
  assert.equal(registry.listening, undefined);
  one.token.cancel();
  assert.equal(two.token.isCancelled, false);
});

test("wrong options are named", () => {
  const wrong = (options: object) => () => createTestToken(options);
  assert.throws(wrong({ savestate() {} }), {
    name: "TypeError",
    message: /unknown option savestate/,
  });
  assert.throws(wrong({ generation: -1 }), {
    message: /generation must be a whole number from 0 on, not -1/,
  });
  assert.throws(wrong({ onReload: 1 }), { message: /onReload must be a function, not 1/ });
  assert.throws(wrong({ drainTimeout: "1s" }), { message: /drainTimeout must be a number/ });
});

test("in a worker thread", async () => {
  const worker = new Worker(new URL("../../fixtures/test_token.ts", import.meta.url));
  const result = await new Promise((resolve, reject) => {
    worker.on("message", resolve);
    worker.on("error", reject);
  });
  await worker.terminate();
  assert.deepEqual(result, {
    body: "from a worker",
    native: "from a worker",
    state: 5,
    kind: "reload",
    complete: true,
  });
});
