/** Below the preload: what is left alone, and programs that know the library. */
import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { type AddressInfo, connect, createServer } from "node:net";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { cleanUp } from "../support/clean_up.ts";
import { root } from "../support/package.ts";
import { freePort } from "../support/port.ts";
import { isAlive } from "../support/proc.ts";
import { fixture, type Program, startProgram, temporaryFolder } from "../support/program.ts";
import { type Runtime, runtimes } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";

const AUTO = join(root, "auto.ts");
const LIBRARY = join(root, "mod.ts");
const flag = { node: "--import", bun: "--preload", deno: "--preload" } as const;

function start(
  t: TestContext,
  runtime: Runtime,
  mode: string,
  port: number,
  env: Record<string, string> = {},
): Program {
  return startProgram(t, runtime, {
    flags: [...runtime.flags, flag[runtime.kind], AUTO],
    script: fixture("auto_others.mjs"),
    env: { MODE: mode, PORT: String(port), AUTO, LIBRARY, RELOAD_SELF_PROBATION: "100ms", ...env },
  });
}

const textFrom = async (port: number) =>
  await (await fetch(`http://127.0.0.1:${port}/`, { headers: { connection: "close" } })).text();
const endedBy = (program: Program) =>
  until("the end", () => program.process.signalCode ?? undefined);

for (const runtime of runtimes) {
  const title = (text: string) => `${runtime.name}: auto: ${text}`;

  test(
    title(
      "a program without a server has no signal handler, and leaves its environment to its children",
    ),
    async (t) => {
      const env = {
        RELOAD_SELF_RUN: "/nowhere",
        RELOAD_SELF_INSTANCES: "1",
        RELOAD_SELF_GUARD: "1",
      };
      const program = start(t, runtime, "tool", 0, env);
      const tool = await program.report("tool");
      assert.deepEqual(tool.signals, [0, 0, 0]);
      if (runtime.kind === "node") assert.equal((await program.report("child")).variables, 3);
      program.signal(tool);
      assert.equal(await endedBy(program), "SIGHUP");
    },
  );

  test(title("a server in a worker thread is left alone"), async (t) => {
    const port = await freePort();
    const program = start(t, runtime, "thread", port);
    const { address, pid } = await program.report("thread");
    assert.equal(address.port, port);
    program.signal(pid);
    assert.equal(await endedBy(program), "SIGHUP");
  });

  test(title("servers that are the process's own are left alone without a word"), async (t) => {
    const folder = temporaryFolder(t);
    const port = await freePort();
    const program = start(t, runtime, "private", port, { FOLDER: folder });
    const first = await program.report("up");
    program.signal(first);
    const second = await program.report("up", ({ pid }) => pid !== first.pid);
    await until("the first to be gone", () => !isAlive(first.pid));
    assert.equal(await textFrom(port), `pid ${second.pid}`);
    assert.equal(await textFrom(second.own[0]), `pid ${second.pid}`);
    assert.deepEqual(program.lines.filter((line) => /by itself|cannot be handed/.test(line)), []);
  });

  test(title("a server that is closed may listen again"), async (t) => {
    const port = await freePort();
    const taken = createServer().listen(0, "127.0.0.1");
    cleanUp(t, () => taken.close());
    await once(taken, "listening");
    const { port: TAKEN } = taken.address() as AddressInfo;
    const program = start(t, runtime, "again", port, { TAKEN: String(TAKEN) });
    let current = await program.report("up");
    for (let i = 0; i < 3; i++) {
      const { pid } = current;
      assert.equal(current.address.port, port);
      assert.equal(await textFrom(port), `pid ${pid}`);
      if (i > 0) {
        process.kill(pid, "SIGUSR2");
        await program.report("again", { pid });
        assert.equal(await textFrom(port), `pid ${pid}`);
      }
      const from = program.reports.length;
      program.signal(pid);
      current = await program.report("up", {}, from);
      await until("the old process to be gone", () => !isAlive(pid));
    }
    assert.equal(await textFrom(port), `pid ${current.pid}`);
    assert.deepEqual(program.lines.filter((line) => /not handed over|failed/.test(line)), []);
  });

  test(title("a port that was only looked at is named as one that is missing"), async (t) => {
    const [port, other] = [await freePort(), await freePort()];
    const env = { PORT2: String(other), RELOAD_SELF_READY_TIMEOUT: "3s" };
    const program = start(t, runtime, "away", port, env);
    const { pid } = await program.report("up");
    program.signal(pid);
    await program.line(
      new RegExp(`reload failed: .*it did not listen on 127\\.0\\.0\\.1:${port}, as this process`),
    );
    assert.equal(await textFrom(port), `pid ${pid}`);
  });

  if (runtime.kind !== "node") {
    test(title("sockets of Bun.listen and Deno.listen are handed over"), async (t) => {
      const port = await freePort();
      const program = start(t, runtime, "raw", port, { RELOAD_SELF_IDLE_GRACE: "300ms" });
      async function pidFrom(): Promise<number> {
        const socket = connect(port, "127.0.0.1");
        const [data] = await once(socket, "data");
        await once(socket, "close");
        return Number(/^pid (\d+)$/.exec(String(data))?.[1]);
      }
      let { pid } = await program.report("up");
      for (let i = 0; i < 3; i++) {
        program.signal(pid);
        const old = pid;
        while (pid === old) pid = await pidFrom(); // For a moment both accept.
        await until("the old process to be gone", () => !isAlive(old));
      }
      program.signal(pid, "SIGTERM");
      await until("all processes to be gone", () => program.pids().length === 0);
    });
  }

  if (runtime.kind === "node") {
    test(title("so are the workers of node:cluster, and that is said"), async (t) => {
      const port = await freePort();
      const program = start(t, runtime, "cluster", port);
      await program.report("worker");
      assert.match(await textFrom(port), /^pid/);
      await program.line(/servers of node:cluster are not handed over/);
      program.signal(program.process.pid as number);
      assert.equal(await endedBy(program), "SIGHUP");
    });
  }

  test(
    title(
      "a program that calls listen() itself ends itself; what it has not bound is handed over as well",
    ),
    async (t) => {
      const [port, port2] = [await freePort(), await freePort()];
      const program = start(t, runtime, "own", port, { PORT2: String(port2) });
      const first = await program.report("serving");
      program.signal(first);
      const next = await program.report("serving", { generation: 1 });
      await program.report("own end", { pid: first.pid });
      await until("the old process to be gone", () => !isAlive(first.pid));
      for (const at of [port, port2]) assert.equal(await textFrom(at), `pid ${next.pid}`);
      assert.deepEqual(program.lines, []);
      program.signal(next, "SIGTERM");
      await until("all to be gone", () => program.pids().length === 0);
    },
  );

  test(title("options that come too late are no error, and it is said"), async (t) => {
    const program = start(t, runtime, "late", await freePort());
    await program.report("serving");
    await program.line(
      /listen\(\) was called when a server was open already.* its drainTimeout is not looked at/,
    );
  });

  test(title("the token is there for a program that wants to know"), async (t) => {
    const port = await freePort();
    const program = start(t, runtime, "token", port);
    const first = await program.report("serving", { generation: 0, canReload: true });
    program.signal(first);
    const next = await program.report("serving", { generation: 1 });
    await program.report("cancelled", { pid: first.pid, kind: "reload" });
    await until("the old process to be gone", () => !isAlive(first.pid));
    assert.equal(await textFrom(port), `pid ${next.pid}`);
  });

  test(title("no datagram is lost, and none is read twice"), async (t) => {
    const port = await freePort();
    const program = start(t, runtime, "datagrams", port);
    const first = await program.report("serving");
    const client = createSocket("udp4");
    cleanUp(t, () => client.close());
    const answers: string[] = [];
    client.on("message", (text) => answers.push(String(text)));
    let sent = 0;
    // The buffer of the socket has room for seconds.
    const timer = setInterval(() => client.send(String(sent++), port, "127.0.0.1"), 10);
    cleanUp(t, () => clearInterval(timer));
    await until("an answer", () => answers.length > 0);
    program.signal(first);
    await until(
      "the new process to answer",
      () => answers.some((text) => !text.startsWith(`pid ${first.pid} `)),
    );
    await until("the old process to be gone", () => !isAlive(first.pid));
    clearInterval(timer);
    await until("all answers", () => answers.length >= sent);
    assert.deepEqual(
      answers.map((text) => Number(text.split(" ")[2])).sort((a, b) => a - b),
      Array.from({ length: sent }, (_, i) => i),
    );
  });
}
