/** Connections that move to the new process. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { cleanUp } from "../support/clean_up.ts";
import { isAlive } from "../support/proc.ts";
import { fixture, startProgram, temporaryFolder } from "../support/program.ts";
import { oneOfEachKind, type Runtime, runtimes } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";

const CLIENTS = 20;

interface Client {
  readonly socket: Socket;
  /** What was sent, line by line. */
  readonly sent: string[];
  /** What was answered. */
  readonly answers: string[][];
  isCut: boolean;
  send(line: string, ending?: string): void;
}

async function createClient(t: TestContext, port: number | string): Promise<Client> {
  const socket = typeof port === "string" ? connect(port) : connect(port, "127.0.0.1");
  cleanUp(t, () => void socket.destroy());
  let text = "";
  const client: Client = {
    socket,
    sent: [],
    answers: [],
    isCut: false,
    send(line, ending = "\n") {
      client.sent.push(line);
      socket.write(line + ending);
    },
  };
  socket.on("error", () => client.isCut = true);
  socket.on("close", () => client.isCut = true);
  socket.on("data", (chunk) => {
    const lines = (text + chunk).split("\n");
    text = lines.pop() as string;
    client.answers.push(...lines.map((line) => line.split(" ")));
  });
  await once(socket, "connect");
  return client;
}

/**
 * Sends lines without waiting for the answers, in pieces of any size, until it is stopped. Resolves
 * when all are answered.
 */
function keepSending({ socket, sent, answers }: Client, name: string): () => Promise<void> {
  let running = true;
  const loop = (async () => {
    for (let i = 0; running; i++) {
      const lines = Array.from({ length: 1 + i % 4 }, (_, j) => `${name}-${i}-${j}`);
      sent.push(...lines);
      const text = lines.map((line) => `${line}\n`).join("");
      const half = Math.floor(Math.random() * text.length);
      socket.write(text.slice(0, half));
      await new Promise((resolve) => setTimeout(resolve, 1 + Math.random() * 3));
      socket.write(text.slice(half));
      await until("an answer", () => sent.length - answers.length < 20);
    }
    await until("all answers", () => answers.length === sent.length);
  })();
  return () => {
    running = false;
    return loop;
  };
}

function checkAnswers({ sent, answers, isCut }: Client): void {
  assert.equal(isCut, false);
  assert.deepEqual(answers.map(([line]) => line), sent, "each line is answered once, in order");
  assert.deepEqual(
    answers.map(([, count]) => Number(count)),
    sent.map((_, i) => i + 1),
    "the connection kept its session",
  );
}

async function begin(t: TestContext, runtime: Runtime, env: Record<string, string> = {}) {
  const program = startProgram(t, runtime, { script: fixture("live.ts"), env });
  const first = await program.report("serving");
  return { program, pid: first.pid as number, port: first.port as number | string };
}

for (const runtime of runtimes) {
  test(`${runtime.name}: connections live through five reloads, and every second new version crashes`, async (t) => {
    const { program, port, pid: first } = await begin(t, runtime);
    let pid = first;
    const clients = await Promise.all(Array.from({ length: CLIENTS }, () => createClient(t, port)));
    const stop = clients.map((client, i) => keepSending(client, `client${i}`));
    for (let generation = 1; generation <= 5; generation++) {
      program.behave("crash");
      const before = program.reports.length;
      program.signal(pid);
      await program.report("reload-fail", {}, before);
      program.behave("run");
      program.signal(pid);
      const { moved, left } = await program.report("connections-move", { pid });
      assert.deepEqual([moved, left], [CLIENTS, 0]);
      const next = await program.report("serving", { generation });
      await until("the old process to be gone", () => !isAlive(pid));
      pid = next.pid;
    }
    await Promise.all(stop.map((stop) => stop()));
    for (const client of clients) checkAnswers(client);
    const acknowledged = clients.reduce((sum, { sent }) => sum + sent.length, 0);
    const totals = clients.flatMap(({ answers }) => answers.map(([, , total]) => Number(total)))
      .sort((a, b) => a - b);
    assert.deepEqual(
      totals,
      Array.from({ length: acknowledged }, (_, i) => i + 1),
      "no write is lost, none is applied twice",
    );
  });
}

for (const runtime of oneOfEachKind) {
  test(`${runtime.name}: half a line, a client that never reads, one that leaves, one that may not move yet`, async (t) => {
    const { program, pid, port } = await begin(t, runtime);
    const [half, deaf, leaver, staying] = await Promise.all(
      [1, 2, 3, 4].map(() => createClient(t, port)),
    ) as [
      Client,
      Client,
      Client,
      Client,
    ];
    half.send("first");
    half.send("hal", "");
    deaf.socket.pause();
    for (let i = 0; i < 2_000; i++) deaf.send("x".repeat(4_000) + i);
    staying.send("stay", "");
    await until("the first answer", () => half.answers.length === 1);
    program.signal(pid);
    await program.report("successor-ready");
    leaver.socket.destroy();
    await program.report("in-charge", { generation: 1 });
    staying.send(" no more");
    await until("an answer", () => staying.answers.length === 1);
    half.socket.write("f\n");
    await until("the second answer", () => half.answers.length === 2);
    assert.deepEqual(half.answers.map(([line, count]) => [line, count]), [["first", "1"], [
      "half",
      "2",
    ]]);
    deaf.socket.resume();
    await until("all answers", () => deaf.answers.length === deaf.sent.length);
    checkAnswers(deaf);
    staying.send("more");
    await until("an answer", () => staying.answers.length === 2);
    assert.equal(staying.isCut, false);
    for (const { socket } of [half, deaf, staying]) socket.end();
    await until("the old process to be gone", () => !isAlive(pid));
  });

  test(`${runtime.name}: a new process that dies before it has taken a connection gives it back`, async (t) => {
    const { program, pid, port } = await begin(t, runtime, { PROBATION: "5000" });
    const client = await createClient(t, port);
    client.send("stay", "");
    const other = await createClient(t, port);
    other.send("one");
    await until("the answer", () => other.answers.length === 1);
    program.signal(pid);
    const next = await program.report("in-charge", { generation: 1 });
    await until("the new process to answer", () => {
      other.send("again");
      return other.answers.some(([, , , by]) => Number(by) === next.pid);
    });
    program.signal(next, "SIGKILL");
    await program.report("reload-fail");
    await until("its connection to be closed", () => other.isCut);
    client.send(" here");
    await until("an answer of the old process", () => client.answers.length === 1);
    assert.deepEqual(client.answers[0]?.slice(0, 3), ["stay", "here", "1"]);
    assert.equal(client.isCut, false);
  });

  test(`${runtime.name}: a connection that has moved is drained like any other`, async (t) => {
    const { program, pid, port } = await begin(t, runtime, { DRAIN: "200" });
    const client = await createClient(t, port);
    client.send("one");
    await until("the answer", () => client.answers.length === 1);
    program.signal(pid);
    await program.report("connections-move", { moved: 1 });
    const { pid: next } = await program.report("serving", { generation: 1 });
    await until("the old process to be gone", () => !isAlive(pid));
    assert.equal(client.isCut, false);
    program.signal(next, "SIGTERM");
    await program.report("drain-cut", { connections: 1 });
    await until("the new process to be gone", () => !isAlive(next));
    await until("the connection to be cut", () => client.isCut);
  });

  test(`${runtime.name}: independent connections move one by one, each with its session`, async (t) => {
    const { program, pid, port } = await begin(t, runtime, { INDEPENDENT: "1" });
    const clients = await Promise.all(Array.from({ length: 100 }, () => createClient(t, port)));
    const stop = clients.map((client, i) => keepSending(client, `client${i}`));
    await until("the first answers", () => clients.every(({ answers }) => answers.length > 0));
    program.signal(pid);
    const { moved, left } = await program.report("connections-move", { pid });
    assert.deepEqual([moved, left], [100, 0]);
    await until("the old process to be gone", () => !isAlive(pid));
    await Promise.all(stop.map((stop) => stop()));
    for (const client of clients) checkAnswers(client);
  });

  test(`${runtime.name}: a connection by a unix socket moves, too`, async (t) => {
    const { program, pid, port } = await begin(t, runtime, {
      SOCKET: join(temporaryFolder(t), "live.sock"),
    });
    const client = await createClient(t, port);
    client.send("one");
    await until("the answer", () => client.answers.length === 1);
    program.signal(pid);
    const { moved, left } = await program.report("connections-move", { pid });
    assert.deepEqual([moved, left], [1, 0]);
    await until("the old process to be gone", () => !isAlive(pid));
    client.send("two");
    await until("the answer", () => client.answers.length === 2);
    checkAnswers(client);
  });
}
