/**
 * Bound servers listen by themselves on Bun, on one socket in all generations. What is true
 * elsewhere too is tested there as well.
 */
import assert from "node:assert/strict";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { connect } from "node:net";
import { test } from "node:test";
import { pattern } from "../load/pattern.ts";
import { openConnection } from "../load/http1.ts";
import { startServer } from "../load/rows.ts";
import { cleanUp, type TestScope } from "../support/clean_up.ts";
import { isAlive } from "../support/proc.ts";
import { fixture, type Report, startProgram } from "../support/program.ts";
import { freePort } from "../support/port.ts";
import { oneOfEachKind } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";

const GET = "GET /1/10/1/0 HTTP/1.1\r\nHost: test\r\n\r\n";

/** The inodes of the sockets that listen on these ports of 127.0.0.1; proc_pid_net(5). */
function inodesOf(ports: readonly number[]): string[] {
  const rows = readFileSync("/proc/net/tcp", "utf8").trim().split("\n").slice(1).map((line) =>
    line.trim().split(/\s+/)
  );
  return ports.map((port) => {
    const address = `0100007F:${port.toString(16).toUpperCase().padStart(4, "0")}`;
    return rows.filter(([, local, , state]) => local === address && state === "0A").map((row) =>
      row[9]
    ).join(" ");
  });
}

const portsOf = ({ addresses }: Report) =>
  Object.values(addresses as Record<string, { port: number }>).map(({ port }) => port);

/** What a server says that closes after its word. */
const hear = (t: TestScope, port: number) =>
  new Promise<string>((resolve, reject) => {
    const socket = connect(port, "127.0.0.1");
    cleanUp(t, () => socket.destroy());
    let text = "";
    socket.setEncoding("utf8").on("data", (data) => text += data).on("end", () => resolve(text)).on(
      "error",
      reject,
    );
  });

/**
 * The files that an epoll instance of a process polls below descriptors that have others, or none,
 * by now.
 */
function stale(pid: number): string[] {
  const fds = readdirSync(`/proc/${pid}/fd`);
  const link = (fd: string) => {
    try {
      return readlinkSync(`/proc/${pid}/fd/${fd}`);
    } catch {
      return "";
    }
  };
  return fds.filter((fd) => link(fd) === "anon_inode:[eventpoll]").flatMap((epoll) =>
    [
      ...readFileSync(`/proc/${pid}/fdinfo/${epoll}`, "utf8").matchAll(
        /^tfd: *(\d+) .* ino:([0-9a-f]+) /gm,
      ),
    ].flatMap(
      ([, fd, inode]) => {
        const file = link(fd as string);
        return file === "" ||
            (file.startsWith("socket:") && file !== `socket:[${parseInt(inode as string, 16)}]`)
          ? [`${fd}: ${file}`]
          : [];
      },
    )
  );
}

for (const runtime of oneOfEachKind.filter(({ kind }) => kind === "bun")) {
  test(`${runtime.name}: every kind of server listens by itself, and says where, in each generation`, async (t) => {
    const program = startProgram(t, runtime, { script: fixture("every_kind.ts") });
    const first = await program.report("serving");
    const ports = portsOf(first);
    const inodes = inodesOf(ports);
    let current = first;
    assert.equal(first.listening, true);
    for (let generation = 1; generation <= 2; generation++) {
      program.signal(current);
      const old = current;
      const { said } = await program.report("cancel", { pid: old.pid });
      assert.deepEqual((said as string[]).map((text) => JSON.parse(text)), [{
        addresses: first.addresses,
        listening: true,
      }]);
      current = await program.report("serving", { generation });
      assert.deepEqual(current.addresses, first.addresses);
      await until("the old process to be gone", () => !isAlive(old.pid));
      assert.deepEqual(inodesOf(ports), inodes);
      assert.equal(await hear(t, ports[4] as number), String(generation));
    }
  });

  test(`${runtime.name}: a new process that dies on probation: every kind of server accepts again, on its socket`, async (t) => {
    const program = startProgram(t, runtime, { script: fixture("every_kind.ts") });
    const first = await program.report("serving");
    const ports = portsOf(first);
    const inodes = inodesOf(ports);
    for (let i = 0; i < 2; i++) {
      const before = program.reports.length;
      program.signal(first);
      program.signal(await program.report("in-charge", undefined, before), "SIGKILL");
      const waiting = hear(t, ports[4] as number);
      await program.report("reload-fail", undefined, before);
      assert.deepEqual([await waiting, await hear(t, ports[4] as number)], ["0", "0"]);
      assert.deepEqual(inodesOf(ports), inodes);
    }
  });

  test(`${runtime.name}: connections move to a server that listens in another way in the new version`, async (t) => {
    const { program, first, target } = await startServer(t, runtime, {
      kind: "http",
      server: { keepAliveTimeout: 1_000 },
    }, {
      unix: true,
    });
    const [used, unused] = await Promise.all([openConnection(target), openConnection(target)]);
    for (const connection of [used, unused]) {
      connection.write(GET);
      await connection.answer();
    }
    // Bun's http.Server has no such option: a server of node:net listens.
    program.behave(`setup ${JSON.stringify({ bind: { readableAll: true } })}`);
    program.signal(first);
    assert.equal((await program.report("connections-move")).moved, 2);
    used.write(GET);
    assert.equal((await used.answer()).headers.get("x-generation"), "1");
    await until("the unused connection to be closed", () => unused.isClosed);
  });
}

for (const runtime of oneOfEachKind) {
  test(`${runtime.name}: an answer that its client has not taken yet comes whole, and its connection moves then`, async (t) => {
    const { program, first, target } = await startServer(t, runtime, { kind: "http" });
    const size = 20_000_000;
    const socket = connect(target.port as number, "127.0.0.1").pause();
    cleanUp(t, () => socket.destroy());
    socket.write(`GET /7/${size}/1/0 HTTP/1.1\r\nHost: test\r\n\r\n`);
    const other = await openConnection(target);
    other.write(GET);
    await other.answer();
    program.signal(first);
    const { moved, left } = await program.report("connections-move");
    assert.deepEqual({ moved, left }, { moved: 1, left: 1 });
    let text = "";
    socket.setEncoding("latin1").on("data", (data) => text += data).resume();
    await until("the answer to be there", () => text.length > size);
    assert.equal(text.slice(text.indexOf("\r\n\r\n") + 4) === pattern(7, size), true);
  });

  test(`${runtime.name}: descriptors and their registrations are as many after six reloads as after one`, async (t) => {
    const { program, first, target } = await startServer(t, runtime, {
      kind: "http",
      options: { probation: 50, idleGrace: 50 },
    });
    const connections = await Promise.all(Array.from({ length: 3 }, () => openConnection(target)));
    const counts: number[] = [];
    let current = first;
    for (let generation = 1; generation <= 6; generation++) {
      for (const connection of connections) {
        connection.write(GET);
        await connection.answer();
      }
      const old = current;
      program.signal(old);
      current = await program.report("in-charge", { generation });
      await until("the old process to be gone", () => !isAlive(old.pid));
      for (const connection of connections) {
        connection.write(GET);
        assert.equal((await connection.answer()).headers.get("x-generation"), String(generation));
      }
      const { pid } = current;
      // The channel is being closed.
      await until("nothing to be polled that is not there any more", () => stale(pid).length === 0);
      counts.push(readdirSync(`/proc/${current.pid}/fd`).length);
    }
    assert.ok(Math.max(...counts.slice(1)) <= (counts[0] as number) + 1, counts.join(" "));
  });

  test(`${runtime.name}: programs that share a port, node:http with reusePort, are reloaded`, async (t) => {
    const port = await freePort();
    const setup = {
      kind: "http" as const,
      ports: [port],
      host: "127.0.0.1",
      bind: { reusePort: true },
      options: { probation: 50, idleGrace: 50 },
    };
    const [one] = [await startServer(t, runtime, setup), await startServer(t, runtime, setup)];
    const inodes = inodesOf([port]);
    assert.equal(inodes[0]?.split(" ").length, 2);
    one.program.signal(one.first);
    await one.program.report("in-charge");
    await until("the old process to be gone", () => !isAlive(one.first.pid));
    assert.deepEqual(inodesOf([port]), inodes);
  });
}
