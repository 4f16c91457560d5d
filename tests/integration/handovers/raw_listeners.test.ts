/** Bun.listen, Deno.listen and Deno.listenTls. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { connect as connectTls } from "node:tls";
import { cleanUp, type TestScope } from "../../support/clean_up.ts";
import { isAlive } from "../../support/proc.ts";
import {
  fixture,
  type Program,
  reload,
  startProgram,
  temporaryFolder,
} from "../../support/program.ts";
import { type Runtime, runtimes, stableFlags } from "../../support/runtimes.ts";
import { until } from "../../support/wait.ts";

type Place = number | string;

/** Starts the fixture; on Deno without --unstable-net. */
function start(
  t: TestScope,
  runtime: Runtime,
  options: object = {},
  more: Record<string, string> = {},
): Program {
  const flags = stableFlags(runtime);
  const env = {
    SOCKET: join(temporaryFolder(t), "socket"),
    OPTIONS: JSON.stringify({ probation: 300, idleGrace: 300, ...options }),
    ...more,
  };
  return startProgram(t, runtime, { script: fixture("raw_listeners.ts"), flags, env });
}

/** Connects, and returns the generation that has accepted. */
async function open(
  t: TestScope,
  place: Place,
  isTls: boolean,
): Promise<{ socket: Socket; generation: number }> {
  const socket = typeof place === "string"
    ? connect(place)
    : isTls
    ? connectTls({ port: place, host: "127.0.0.1", rejectUnauthorized: false })
    : connect(place, "127.0.0.1");
  cleanUp(t, () => socket.destroy());
  const generation = Number(await read(socket));
  return { socket: socket.on("error", () => {}), generation };
}

/** What comes next. Rejects when the connection ends. */
async function read(socket: Socket): Promise<string> {
  const ended = new AbortController();
  const abort = () => ended.abort();
  socket.once("close", abort);
  const [data] = await once(socket, "data", { signal: ended.signal });
  socket.off("close", abort);
  return String(data);
}

function echo(socket: Socket, text: string): Promise<string> {
  socket.write(text);
  return read(socket);
}

for (const runtime of runtimes.filter(({ servers }) => servers.includes("adopted"))) {
  test(`${runtime.name}: raw listening sockets go on in each generation, their connections where they are`, async (t) => {
    const program = start(t, runtime);
    let current = await program.report("serving");
    const places: Place[] = current.places;
    const openAll = () => Promise.all(places.map((place, i) => open(t, place, i === 1)));
    let isOver = false;
    const seen: number[] = [];
    async function keepConnecting(): Promise<void> {
      while (!isOver) {
        for (const { socket, generation } of await openAll()) {
          seen.push(generation);
          assert.equal(await echo(socket, "hello"), "hello");
          socket.end();
          await once(socket, "close");
        }
      }
    }
    const connecting = keepConnecting();
    cleanUp(t, () => isOver = true);
    for (const generation of [1, 2, 3]) {
      const kept = await openAll();
      const old = current;
      program.signal(old);
      current = await program.report("serving", { generation });
      assert.deepEqual(current.places, places);
      await until("the new process to accept", () => seen.at(-1) === generation);
      for (const { socket, generation: own } of kept) {
        assert.equal(own, generation - 1);
        assert.equal(await echo(socket, "still here"), "still here");
      }
      // The loops of the others go on for as long as one has connections.
      const [{ socket: last }, ...others] = kept.toReversed() as [typeof kept[0], ...typeof kept];
      for (const { socket } of others) socket.end();
      for (let i = 0; i < 10; i++) {
        assert.equal(await echo(last, "still here"), "still here");
        await delay(100);
      }
      assert.ok(isAlive(old.pid));
      last.end();
      await until("the old process to be gone", () => !isAlive(old.pid));
    }
    isOver = true;
    await connecting;
    program.signal(current, "SIGTERM");
    await until("all processes to be gone", () => program.pids().length === 0);
  });

  test(`${runtime.name}: raw listening sockets at one port of two addresses are told apart`, async (t) => {
    if (!existsSync("/proc/net/if_inet6")) return t.skip("this machine has no IPv6");
    const program = start(t, runtime, {}, { IPv6: "1" });
    let current = await program.report("serving");
    const [port] = current.places;
    for (const generation of [1, 2]) {
      current = await reload(program, current);
      for (const host of ["127.0.0.1", "::1"]) {
        const socket = connect(port, host);
        cleanUp(t, () => socket.destroy());
        assert.equal(Number(await read(socket)), generation);
        socket.destroy();
      }
    }
    assert.deepEqual(program.reports.filter(({ type }) => type === "warning"), []);
  });

  test(`${runtime.name}: what is left of raw connections is cut after drainTimeout, and counted`, async (t) => {
    const program = start(t, runtime, { drainTimeout: 700 });
    const current = await program.report("serving");
    const places: Place[] = current.places;
    const kept = await Promise.all(places.map((place, i) => open(t, place, i === 1)));
    let closed = 0;
    for (const { socket } of kept) socket.on("close", () => closed++).resume();
    program.signal(current);
    for (const _ of places) assert.equal((await program.report("drain-cut")).connections, 1);
    await until("the clients to hear of it", () => closed === kept.length);
    await until("the old process to be gone", () => !isAlive(current.pid));
  });

  test(`${runtime.name}: a new version that fails leaves raw listening sockets where they are`, async (t) => {
    const program = start(t, runtime, { ready: "manual", readyTimeout: 300 });
    const current = await program.report("serving");
    const places: Place[] = current.places;
    program.signal(current);
    await program.report("reload-fail");
    for (const [i, place] of places.entries()) {
      const { generation, socket } = await open(t, place, i === 1);
      assert.equal(generation, 0);
      assert.equal(await echo(socket, "hello"), "hello");
    }
  });
}
