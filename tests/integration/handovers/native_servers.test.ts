/**
 * Adopted servers: one socket in all generations, without reusePort. All options have their
 * defaults.
 */
import assert from "node:assert/strict";
import {
  chmodSync,
  chownSync,
  existsSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
} from "node:fs";
import { request } from "node:http";
import { createServer } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { join } from "node:path";
import { test } from "node:test";
import { openConnection, type Target } from "../../load/http1.ts";
import { cleanUp, type TestScope } from "../../support/clean_up.ts";
import { freePort } from "../../support/port.ts";
import {
  fixture,
  type Program,
  reload,
  type Report,
  startProgram,
  temporaryFolder,
} from "../../support/program.ts";
import { isAlive } from "../../support/proc.ts";
import { type Runtime, runtimes, stableFlags } from "../../support/runtimes.ts";
import { until } from "../../support/wait.ts";

async function ask(
  target: Target,
  path = "/",
): Promise<{ generation: number; body: string; client: string | undefined }> {
  const connection = await openConnection(target);
  try {
    const answer = connection.answer();
    connection.write(`GET ${path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n`);
    const { headers, body } = await answer;
    return {
      generation: Number(headers.get("x-generation")),
      body,
      client: headers.get("x-client"),
    };
  } finally {
    connection.close();
  }
}

/**
 * The registrations of an epoll instance that name a descriptor which the process does not have any
 * more.
 */
function strayRegistrations(pid: number): string[] {
  const names = readdirSync(`/proc/${pid}/fd`);
  const links = new Map(names.map((fd) => {
    try {
      return [fd, readlinkSync(`/proc/${pid}/fd/${fd}`)];
    } catch {
      return [fd, ""];
    }
  }));
  return names.filter((fd) => links.get(fd) === "anon_inode:[eventpoll]").flatMap((fd) => {
    const text = readFileSync(`/proc/${pid}/fdinfo/${fd}`, "utf8");
    return [...text.matchAll(/^tfd:\s*(\d+) .*ino:([0-9a-f]+)/gm)].filter(([, tfd, ino]) => {
      const link = links.get(tfd as string);
      return link === undefined ||
        (link.startsWith("socket:") && link !== `socket:[${parseInt(ino as string, 16)}]`);
    }).map(([line]) => line);
  });
}

const count = (pid: number) => readdirSync(`/proc/${pid}/fd`).length;

/** Starts a fixture; on Deno without --unstable-net. */
function start(
  t: TestScope,
  runtime: Runtime,
  env: Record<string, string> = {},
  script = "adopted.ts",
): Program {
  const flags = stableFlags(runtime);
  return startProgram(t, runtime, { script: fixture(script), flags, env });
}

for (const runtime of runtimes.filter(({ servers }) => servers.includes("adopted"))) {
  test(`${runtime.name}: a server that could not be opened, or was stopped, leaves its address to the next one`, async (t) => {
    const [port, other] = [await freePort(), await freePort()];
    const env = { PORT: String(port), SECOND: String(other) };
    const program = start(t, runtime, env, "reopened.ts");
    const first = await program.report("serving");
    await program.report("in use");
    assert.equal((await ask({ port: other })).generation, 0);
    // It keeps the old process.
    const late = await openConnection({ port: other });
    cleanUp(t, late.close);
    late.write("GET /never HTTP/1.1\r\nHost: test\r\n\r\n");
    await program.report("asked", { generation: 0 });
    program.signal(first);
    const second = await program.report("serving", { generation: 1 });
    await program.report("cancel", { pid: first.pid });
    assert.equal((await ask({ port })).generation, 1);
    await until(
      "the other port to be closed",
      () => ask({ port: other }).then(() => false, () => true),
    );
    const isOfFirst = ({ type, pid }: Report) => type === "drain-cut" && pid === first.pid;
    assert.deepEqual(program.reports.filter(isOfFirst), [], "at once");
    await until("the old process to be gone", () => !isAlive(first.pid));
    const never = await openConnection({ port });
    cleanUp(t, never.close);
    never.write("GET /never HTTP/1.1\r\nHost: test\r\n\r\n");
    await program.report("asked", { generation: 1 });
    // The application stops the server, and the time for its requests ends.
    program.signal(second);
    await program.report("cancel", { pid: second.pid });
    assert.equal((await ask({ port })).generation, 2);
    assert.equal((await ask({ port: other })).generation, 2);
    await program.report("drain-cut", { generation: 1 });
    await program.report("stopped", { generation: 1 });
    await until("the old process to be gone", () => !isAlive(second.pid));
    assert.deepEqual(program.lines, []);
    assert.deepEqual(program.reports.filter(({ type }) => type === "warning"), []);
  });

  for (const at of ["successor-start", "successor-ready"]) {
    test(`${runtime.name}: a server that is stopped at ${at} fails the reload with a word, not the next one`, async (t) => {
      const [port, other] = [await freePort(), await freePort()];
      const env = { PORT: String(port), SECOND: String(other), STOP_AT: at };
      const program = start(t, runtime, env, "reopened.ts");
      const first = await program.report("serving");
      program.signal(first);
      const { error } = await program.report("reload-fail");
      assert.match(error.message, new RegExp(`:${other} was stopped meanwhile\\. Reload again`));
      assert.equal((await ask({ port })).generation, 0);
      const from = program.reports.length;
      program.signal(first);
      await program.report("cancel", { pid: first.pid }, from);
      assert.equal((await ask({ port })).generation, 1);
    });
  }

  test(`${runtime.name}: port 0 keeps its port, and each generation says it`, async (t) => {
    const program = start(t, runtime);
    let current = await program.report("serving");
    const { ports: [port], url, hostname, address } = current;
    const descriptors: number[] = [];
    for (let generation = 1; generation <= 5; generation++) {
      const next = await reload(program, current);
      assert.deepEqual([next.ports[0], next.url, next.hostname, next.address], [
        port,
        url,
        hostname,
        address,
      ]);
      assert.equal((await ask({ port })).generation, generation);
      assert.deepEqual(strayRegistrations(next.pid), []);
      descriptors.push(count(next.pid));
      current = next;
    }
    assert.deepEqual(program.reports.filter(({ type }) => type === "warning"), []);
    assert.deepEqual(program.lines, []);
    // What belongs to the reload is closed a moment later.
    await until(
      "the descriptors to be as many as before",
      () => count(current.pid) <= Math.min(...descriptors),
    );
    program.signal(current, "SIGTERM");
    await until("all processes to be gone", () => program.pids().length === 0);
  });

  for (const behaviour of ["crash", "crash-late", "die"]) {
    test(`${runtime.name}: a new version with the behaviour "${behaviour}" leaves the old one serving`, async (t) => {
      const program = start(t, runtime);
      const first = await program.report("serving");
      const [port] = first.ports;
      program.behave(behaviour);
      program.signal(first);
      await program.report("reload-fail");
      for (let i = 0; i < 5; i++) assert.equal((await ask({ port })).generation, 0);
      assert.deepEqual(strayRegistrations(first.pid), []);
      program.behave("run");
      const next = await reload(program, first);
      assert.equal((await ask({ port })).generation, next.generation);
    });
  }

  test(`${runtime.name}: the old process is killed before it has sent its socket: the new one listens at the same address`, async (t) => {
    const program = start(t, runtime);
    const first = await program.report("serving");
    const [port] = first.ports;
    program.signal(first);
    await program.report("successor-start");
    program.signal(first, "SIGKILL");
    await program.report("in-charge", { generation: 1, predecessor: "gone" });
    await until(
      "the new process to answer",
      () => ask({ port }).then(({ generation }) => generation === 1, () => false),
    );
    const next = await program.report("serving", { generation: 1 });
    const last = await reload(program, next);
    assert.equal((await ask({ port })).generation, last.generation);
  });

  for (const where of ["a port", "a unix socket"]) {
    test(`${runtime.name}, ${where}: the old process is killed before the new one has opened its server`, async (t) => {
      const path = where === "a port" ? undefined : join(temporaryFolder(t), "server.sock");
      const program = start(t, runtime, path === undefined ? {} : { SOCKET: path });
      const first = await program.report("serving");
      const target = path === undefined ? { port: first.ports[0] } : { path };
      program.behave("late");
      program.signal(first);
      await program.report("late");
      program.signal(first, "SIGKILL");
      const next = await program.report("serving", { generation: 1 });
      await until(
        "the new process to answer",
        () => ask(target).then(({ generation }) => generation === 1, () => false),
      );
      program.behave("run");
      const last = await reload(program, next);
      assert.equal((await ask(target)).generation, last.generation);
    });
  }

  test(`${runtime.name}: a unix socket is the same one in all generations, with its owner, group and mode`, async (t) => {
    const path = join(temporaryFolder(t), "server.sock");
    const program = start(t, runtime, { SOCKET: path });
    let current = await program.report("serving");
    chmodSync(path, 0o660);
    chownSync(path, 1, 33);
    const { ino } = statSync(path);
    for (let generation = 1; generation <= 3; generation++) {
      current = await reload(program, current);
      assert.equal((await ask({ path })).generation, generation);
      const now = statSync(path);
      assert.deepEqual([now.ino, now.uid, now.gid, now.mode & 0o777], [ino, 1, 33, 0o660]);
      assert.deepEqual(
        readdirSync(join(path, "..")),
        ["server.sock"],
        "no private name is left behind",
      );
    }
    if (runtime.kind === "deno") {
      assert.equal(current.address.path, path);
      assert.equal((await ask({ path })).client, path);
    }
    // A killed process leaves its socket behind; the next one replaces it.
    program.signal(current, "SIGKILL");
    await until("it to be gone", () => program.pids().length === 0);
    assert.ok(existsSync(path));
    const second = start(t, runtime, { SOCKET: path });
    await second.report("serving");
    assert.equal((await ask({ path })).generation, 0);
    // One that is served is not taken away.
    const third = start(t, runtime, { SOCKET: path });
    await third.line(/EADDRINUSE: another program serves/);
    assert.equal((await ask({ path })).generation, 0);
  });

  test(`${runtime.name}: an address in use is the runtime's own error`, async (t) => {
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen(0, "127.0.0.1", resolve));
    cleanUp(t, () => taken.close());
    const { port } = taken.address() as { port: number };
    await start(t, runtime, { PORT: String(port) }).line(/EADDRINUSE|AddrInUse|in use/i);
  });

  test(`${runtime.name}: an address that the predecessor does not have is opened as it is`, async (t) => {
    const [before, after] = [await freePort(), await freePort()];
    const program = start(t, runtime, {
      PORT: `${before}`,
      OPTIONS: `{"ready":"manual","readyTimeout":5000}`,
    });
    const first = await program.report("serving");
    program.behave(`port ${after}`);
    program.signal(first);
    await program.report("reload-end", { generation: 1 });
    assert.equal((await ask({ port: after })).generation, 1);
    await until(
      "the old address to be closed",
      () => ask({ port: before }).then(() => false, ({ code }) => code === "ECONNREFUSED"),
    );
  });

  test(`${runtime.name}: a new version that opens no server at port 0 is told which one is missing`, async (t) => {
    const program = start(t, runtime, { OPTIONS: `{"readyTimeout":4000}` });
    const first = await program.report("serving");
    program.behave(`port ${await freePort()}`);
    program.signal(first);
    const { error } = await program.report("reload-fail");
    assert.match(error.message, new RegExp(`did not listen on 127\\.0\\.0\\.1:${first.ports[0]},`));
  });

  test(`${runtime.name}: an upload that goes on for longer than the reload`, async (t) => {
    const program = start(t, runtime);
    const first = await program.report("serving");
    const [port] = first.ports;
    const uploaded = new Promise<string>((resolve, reject) => {
      const upload = request({ port, host: "127.0.0.1", method: "POST" }, (response) => {
        let text = "";
        response.on("data", (chunk) => text += chunk).on("end", () => resolve(text)).on(
          "error",
          reject,
        );
      });
      upload.on("error", reject);
      upload.write("begin ");
      // Longer than the probation.
      program.report("cancelled").then(() => delay(1_500)).then(() => upload.end("end"));
    });
    const next = await reload(program, first).catch((error) => error);
    assert.equal(await uploaded, "begin end");
    assert.equal(next.generation, 1);
  });
}

for (const runtime of runtimes.filter(({ kind }) => kind === "bun")) {
  test(`${runtime.name}: routes of all kinds are served by each generation, and carry Connection: close when they drain`, async (t) => {
    const path = join(temporaryFolder(t), "socket"); // Its connections do not move.
    const program = start(t, runtime, { SOCKET: path });
    let current = await program.report("serving");
    const target = { path };
    const kept = await Promise.all(["/static", "/function", "/methods", "/"].map(async (path) => {
      const connection = await openConnection(target);
      cleanUp(t, () => connection.close());
      const get = async () => {
        const answer = connection.answer();
        connection.write(`GET ${path} HTTP/1.1\r\nHost: test\r\n\r\n`);
        return await answer;
      };
      assert.equal((await get()).headers.get("connection"), undefined, path);
      return { path, get };
    }));
    program.signal(current);
    await program.report("successor-in-charge");
    for (const { path, get } of kept) {
      const { headers, body } = await get();
      assert.equal(headers.get("connection")?.toLowerCase(), "close", path);
      if (path === "/static") assert.equal(body, "static");
    }
    current = await program.report("serving", { generation: 1 });
    await program.report("reload-end");
    assert.equal((await ask(target, "/static")).body, "static");
    assert.equal((await ask(target, "/function")).generation, 1);
    assert.equal((await ask(target, "/methods")).generation, 1);
  });
}

for (const runtime of runtimes.filter(({ kind }) => kind === "node")) {
  test(`${runtime.name}: there is nothing to adopt`, async (t) => {
    const program = startProgram(t, runtime, {
      command: [runtime.executable, ...runtime.flags, "-e", ADOPT],
    });
    await program.line(/TypeError: adopt: Node has no servers of its own; .* token\.bind\(server/);
  });
}
const ADOPT = `import(${
  JSON.stringify(new URL("../../../mod.ts", import.meta.url).href)
}).then(({ listen }) => listen().adopt(() => {}))`;
