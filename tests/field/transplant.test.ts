/** Putting another socket below a running Bun.serve or Deno.serve. */
import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { openConnection, type Target } from "../load/http1.ts";
import { describeTally, failureCount, startLoad } from "../load/load.ts";
import { cleanUp } from "../support/clean_up.ts";
import {
  type Program,
  type Report,
  type StartOptions,
  startProgram,
  temporaryFolder,
} from "../support/program.ts";
import { isAlive } from "../support/proc.ts";
import { runtimes } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";

const script = new URL("../fixtures/transplant.ts", import.meta.url).pathname;
const natives = runtimes.filter(({ servers }) => servers.includes("native"));
const kinds = ["tcp", "tls", "unix"] as const;
/** What Deno needs, and no more. */
const restricted: Record<string, Pick<StartOptions, "flags">> = {
  deno: { flags: ["run", "--quiet", "--no-check", "--no-prompt", "--allow-net", "--allow-ffi"] },
};

/**
 * The registrations of sockets that a process does not have any more: its runtime would hear of
 * them for ever.
 */
function strayRegistrations(pid: number): string[] {
  const targets = new Map(
    readdirSync(`/proc/${pid}/fd`).map((fd) => [fd, readlinkSync(`/proc/${pid}/fd/${fd}`)]),
  );
  const sockets = new Set(
    [...targets.values()].map((target) => /^socket:\[(\d+)\]$/.exec(target)?.[1]),
  );
  return [...targets].filter(([, target]) => target === "anon_inode:[eventpoll]").flatMap((
    [epoll],
  ) =>
    readFileSync(`/proc/${pid}/fdinfo/${epoll}`, "utf8").split("\n").filter((line) => {
      const [, fd, inode] = /^tfd: *(\d+) .* ino:([0-9a-f]+) /.exec(line) ?? [];
      const isSocket = fd !== undefined && (targets.get(fd)?.startsWith("socket:") ?? true);
      return isSocket && !sockets.has(String(parseInt(inode as string, 16)));
    })
  );
}

/** Waits until there are none: from outside a process is seen between two of its steps too. */
async function hasNoStrays(pid: number): Promise<void> {
  let last: unknown;
  await until("only files of the process to be polled", () => {
    try {
      const found = strayRegistrations(pid);
      last = found;
      return found.length === 0;
    } catch (error) {
      last = error; // A descriptor was closed meanwhile.
      return false;
    }
  }).catch((error) => assert.fail(`${error.message}: ${last}`));
}

async function ask(target: Target): Promise<string> {
  const connection = await openConnection(target);
  try {
    connection.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    return (await connection.answer()).body;
  } finally {
    connection.close();
  }
}

for (const runtime of natives) {
  const start = (t: Parameters<typeof startProgram>[0], ...args: string[]): Program =>
    startProgram(t, runtime, { script, args });

  test(`the machine is asked whether it can be done, on ${runtime.name}`, async (t) => {
    const program = startProgram(t, runtime, {
      script,
      args: ["check"],
      ...restricted[runtime.name],
    });
    const { why, isListener, left } = await program.report("checked");
    assert.deepEqual([why, isListener, left], [undefined, true, 0]);
  });

  test(`the channel of descriptors is full, out of descriptors, and closed, on ${runtime.name}`, async (t) => {
    const command = [
      "/bin/sh",
      "-c",
      'ulimit -n 512; exec "$@"',
      "sh",
      runtime.executable,
      ...runtime.flags,
      script,
      "channel",
    ];
    const result = await startProgram(t, runtime, { command }).report("tried");
    const { first, sent, again, tags, ended, isClosedOnExec, end, kinds, left } = result;
    assert.deepEqual(
      [first, again, ended, end, left],
      ["none", "sent", "invalid", "closed", 0],
      JSON.stringify(result),
    );
    // The first messages, each of 100, until the limit of 512 open files is reached.
    assert.ok(
      tags.length >= 4 && tags.length <= 5 && sent > tags.length && isClosedOnExec,
      JSON.stringify(result),
    );
    assert.deepEqual(tags, [...Array(tags.length).keys()]);
    assert.deepEqual(kinds, ["descriptors", "closed"]);
  });

  for (const kind of kinds) {
    test(`a suspended server accepts nothing, and afterwards what waited: ${kind} on ${runtime.name}`, async (t) => {
      const path = join(temporaryFolder(t), "socket");
      const program = start(t, "suspend", kind, path);
      const { port } = await program.report("up");
      const target = kind === "unix" ? { path } : { port, tls: kind === "tls" };
      assert.equal(await ask(target), "A");
      for (let round = 0; round < 3; round++) {
        const from = program.reports.length;
        program.signal(program.process.pid as number, "SIGUSR1");
        await program.report("suspended", {}, from);
        let isAnswered = false;
        const answer = ask(target).finally(() => isAnswered = true);
        const look = async () => {
          const from = program.reports.length;
          program.signal(program.process.pid as number, "SIGHUP");
          return (await program.report("looked", {}, from)).waits;
        };
        await until("the connection to wait", look);
        for (let i = 0; i < 10; i++) assert.ok(await look() && !isAnswered);
        program.signal(program.process.pid as number, "SIGUSR2");
        await program.report("resumed", {}, from);
        assert.equal(await answer, "A");
        assert.equal(await ask(target), "A");
        await hasNoStrays(program.process.pid as number);
      }
    });
  }

  test(`a kept connection goes on in another server, on ${runtime.name}`, async (t) => {
    const program = start(t, "connection");
    const { port } = await program.report("up");
    const connections = await Promise.all(
      Array.from({ length: 5 }, () => openConnection({ port })),
    );
    const answers = () =>
      Promise.all(connections.map(async (connection) => {
        connection.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        return (await connection.answer()).body;
      }));
    assert.deepEqual(new Set(await answers()), new Set(["A"]));
    program.signal(program.process.pid as number, "SIGUSR1");
    assert.equal((await program.report("moved")).count, connections.length);
    assert.deepEqual(new Set(await answers()), new Set(["B"]));
    assert.ok(connections.every(({ isClosed }) => !isClosed));
    for (const connection of connections) connection.close();
    await hasNoStrays(program.process.pid as number);
  });

  for (const kind of ["dgram", "native"] as const) {
    test(`no datagram is lost while a socket is suspended, moves, and is resumed: ${kind} on ${runtime.name}`, async (t) => {
      const program = start(t, "datagrams", kind);
      const { port } = await program.report("up");
      const client = createSocket("udp4");
      cleanUp(t, () => client.close());
      const answers = new Map<number, string>();
      const froms = new Set<number>();
      client.on("message", (text, from) => {
        const [name = "", number] = String(text).split(":");
        answers.set(Number(number), name);
        froms.add(from.port);
      });
      let sent = 0;
      const send = async (count: number) => {
        for (let i = 0; i < count; i++) {
          await new Promise((resolve) => client.send(String(sent++), port, "127.0.0.1", resolve));
        }
      };
      const step = async (signal: NodeJS.Signals, type: string) => {
        program.signal(program.process.pid as number, signal);
        await program.report(type);
      };
      const all = () => until("all answers", () => answers.size === sent);
      await send(20);
      await all();
      await step("SIGUSR1", "suspended");
      await send(20);
      await step("SIGUSR2", "moved");
      await all();
      assert.deepEqual(
        new Set([...answers].filter(([number]) => number >= 20).map(([, name]) => name)),
        new Set(["B"]),
      );
      await send(20);
      await all();
      await step("SIGHUP", "resumed"); // Both hear now: who is asked first depends on the runtime.
      await send(50);
      await all();
      assert.deepEqual([...froms], [port]);
    });
  }

  const ways = runtime.kind === "deno"
    ? ["stdio", "command", "guarded stdio", "guarded command", "kept stdio", "kept command"]
    : ["stdio", "guarded stdio", "kept stdio"];
  for (
    const [how, kind] of [...ways.map((how) => [how, "tcp"] as const), [ways[0], "tls"], [
      ways[0],
      "unix",
    ]] as const
  ) {
    test(`generations have one listening socket, ${kind} by ${how} on ${runtime.name}`, async (t) => {
      const path = join(temporaryFolder(t), "socket");
      const args = ["generations", kind, how as string, "0", ...(kind === "unix" ? [path] : [])];
      const program = startProgram(t, runtime, {
        script,
        args,
        env: { RELOAD_SELF_RUN: temporaryFolder(t) },
      });
      const first = await program.report("up");
      const target = kind === "unix" ? { path } : { port: first.port, tls: kind === "tls" };
      const inode = kind === "unix" ? statSync(path).ino : undefined;
      const load = startLoad("new", target, 10);
      let old: Report = first;
      for (let generation = 1; generation <= 4; generation++) {
        program.signal(old, "SIGHUP");
        const next = await program.report("up", { generation });
        assert.deepEqual([next.port, next.files], [first.port, 1]);
        await hasNoStrays(next.pid);
        await until("the new one to answer", () => load.tally.generations.has(generation));
        program.signal(old, "SIGUSR2");
        await until("the old one to be gone", () => !isAlive(old.pid));
        old = next;
      }
      const tally = await load.stop();
      assert.equal(failureCount(tally), 0, describeTally(tally));
      if (inode !== undefined) assert.equal(statSync(path).ino, inode);
    });
  }
}

test("the threads of deno serve --parallel have descriptors of one socket, and there is one more", async (t) => {
  for (const runtime of natives.filter(({ kind }) => kind === "deno")) {
    const script = new URL("../fixtures/listening_threads.ts", import.meta.url).pathname;
    const command = [
      runtime.executable,
      "serve",
      "--allow-all",
      "--no-check",
      "--parallel",
      "--host",
      "127.0.0.1",
      "--port",
      "0",
      script,
    ];
    const program = startProgram(t, runtime, {
      command,
      env: { DENO_JOBS: "3", DENO_NO_PACKAGE_JSON: "1" },
    });
    const { files, port } = await program.report("listening");
    assert.deepEqual(files, [{ port, polled: 3, unpolled: 1 }]);
  }
});
