/** examples/mini-redis, with the clients of Redis. */
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { createInterface } from "node:readline";
import { test, type TestContext } from "node:test";
import { promisify } from "node:util";
import { cleanUp } from "../support/clean_up.ts";
import { freePort } from "../support/port.ts";
import { isAlive } from "../support/proc.ts";
import { fixture, pidOnLine, startProgram } from "../support/program.ts";
import { oneOfEachKind, type Runtime } from "../support/runtimes.ts";
import { missing } from "../support/tools.ts";
import { until } from "../support/wait.ts";

const run = promisify(execFile);
const skip = missing("redis-benchmark", "redis-tools");

/**
 * Starts the example; `reload` puts the next generation in charge, and waits until the old process
 * is gone.
 */
async function start(t: TestContext, runtime: Runtime) {
  const port = await freePort();
  const program = startProgram(t, runtime, {
    script: fixture("mini_redis.ts"),
    env: { PORT: String(port) },
  });
  let generation = 0;
  const listening = () =>
    pidOnLine(program, new RegExp(`^pid \\d+, generation ${generation}: listening`));
  let pid = await listening();

  async function reload(): Promise<void> {
    program.signal(pid);
    generation++;
    const next = await listening();
    await until("the old process to be gone", () => !isAlive(pid));
    pid = next;
  }
  async function crash(): Promise<void> {
    const failures = () => program.lines.filter((line) => line.includes("reload failed")).length;
    const before = failures();
    program.behave("crash");
    program.signal(pid);
    await until("the reload to fail", () => failures() > before);
    program.behave("run");
  }
  return { port, reload, crash, isServing: () => isAlive(pid) };
}

/** A connection that sends a command when the one before is answered with a number. */
function createCounter(t: TestContext, port: number, command: (n: number) => string) {
  const socket: Socket = connect(port, "127.0.0.1");
  cleanUp(t, () => void socket.destroy());
  let running = true;
  const counter = { acknowledged: 0, error: "", stop };
  const ended = once(socket, "close");
  socket.on("error", ({ message }) => counter.error ||= message);
  socket.on("end", () => counter.error ||= "cut");
  let text = "";
  const ask = () => socket.write(`${command(counter.acknowledged)}\r\n`);
  socket.on("connect", ask);
  socket.on("data", (data) => {
    text += data;
    if (!text.endsWith("\r\n")) return;
    if (/^:\d+\r\n$/.test(text)) counter.acknowledged++;
    else counter.error ||= `answered ${text}`;
    text = "";
    if (running) ask();
    else socket.destroy();
  });
  async function stop(): Promise<void> {
    running = false;
    await ended;
  }
  return counter;
}

const redisCli = async (port: number, ...command: string[]) =>
  (await run("redis-cli", ["-p", String(port), ...command])).stdout.trim();

for (const runtime of oneOfEachKind) {
  test(`${runtime.name}: redis-benchmark runs through ten reloads, with and without pipelining`, {
    skip,
  }, async (t) => {
    const { port, reload } = await start(t, runtime);
    let reloads = 0;
    let requests = 0;
    /**
     * Rounds until the reloads are over. An error, or a connection that is cut, ends the program
     * with another code than 0.
     */
    async function benchmark(pipelining: number, count: number): Promise<void> {
      do {
        const args = `-p ${port} -t incr -c 50 -P ${pipelining} -n ${count} -q`.split(" ");
        const { stdout } = await run("redis-benchmark", args, {
          env: { ...process.env, LC_ALL: "C" },
        });
        assert.match(stdout, /INCR: [\d.]+ requests per second/);
        requests += count;
      } while (reloads < 10);
    }
    const all = Promise.all([benchmark(1, 40_000), benchmark(16, 200_000)]);
    all.catch(() => {}); // Perhaps before it is awaited.
    for (; reloads < 10; reloads++) await reload();
    await all;
    assert.equal(
      await redisCli(port, "get", "counter:__rand_int__"),
      String(requests),
      "none is lost, none applied twice",
    );
  });
}

for (const runtime of oneOfEachKind) {
  test(
    `${runtime.name}: 50 clients count, and two listen, through twenty reloads and ten crashes`,
    { skip },
    async (t) => {
      const { port, reload, crash } = await start(t, runtime);
      /** What redis-cli prints. */
      async function subscribe(): Promise<string[]> {
        const lines: string[] = [];
        const subscriber = spawn("redis-cli", ["-p", String(port), "subscribe", "news"], {
          stdio: ["ignore", "pipe", "inherit"],
        });
        cleanUp(t, () => void subscriber.kill("SIGKILL"));
        subscriber.once("exit", () => lines.push("cut"));
        createInterface(subscriber.stdout).on("line", (line) => lines.push(line));
        await until("the subscription", () => lines.length >= 3);
        return lines;
      }
      // The first connection is likely to move first, and the last one last.
      const first = await subscribe();
      const counters = Array.from(
        { length: 50 },
        () => createCounter(t, port, () => "INCR visits"),
      );
      const publisher = createCounter(t, port, (n) => `PUBLISH news message-${n}`);
      await until("the first answers", () => publisher.acknowledged > 0);
      const last = await subscribe();
      for (let i = 0; i < 20; i++) {
        if (i % 2 === 0) await crash();
        await reload();
      }
      await Promise.all([publisher, ...counters].map(({ stop }) => stop()));
      assert.deepEqual([...new Set([publisher, ...counters].map(({ error }) => error))], [""]);
      const acknowledged = counters.reduce((sum, { acknowledged }) => sum + acknowledged, 0);
      assert.equal(await redisCli(port, "get", "visits"), String(acknowledged));
      for (const heard of [first, last]) {
        await until(
          "the last message",
          () => heard.at(-1) === `message-${publisher.acknowledged - 1}`,
        );
        const numbers = heard.filter((line) => line.startsWith("message-")).map((line) =>
          Number(line.slice(8))
        );
        assert.deepEqual(
          numbers,
          numbers.map((_, i) => i + (numbers[0] as number)),
          "each message once, in order",
        );
        assert.equal(heard.includes("cut"), false);
      }
    },
  );
}

for (const runtime of oneOfEachKind) {
  test(`${runtime.name}: the commands`, { skip }, async (t) => {
    const { port, reload } = await start(t, runtime);
    const script = [
      ["ping", "PONG"],
      ["echo hello", "hello"],
      ["set a 1 ex 100", "OK"],
      ["get a", "1"],
      ["incr a", "2"],
      ["ttl a", "100"],
      ["set b x px 0", "ERR invalid expire time in 'set' command"],
      ["set b x px 1", "OK"],
      ["rpush l 2 3", "2"],
      ["lpush l 1 0", "4"],
      ["lrange l 0 -1", "0\n1\n2\n3"],
      ["lrange l 1 2", "1\n2"],
      ["get l", "WRONGTYPE Operation against a key holding the wrong kind of value"],
      ["incr l", "WRONGTYPE Operation against a key holding the wrong kind of value"],
      ["expire l 50", "1"],
      ["expire missing 50", "0"],
      ["ttl missing", "-2"],
      ["set c 1", "OK"],
      ["ttl c", "-1"],
      ["del c missing", "1"],
      ["publish nobody hello", "0"],
      ["nonsense", "ERR unknown command 'nonsense'"],
      ["get", "ERR wrong number of arguments for 'get' command"],
    ];
    for (const [command = "", reply] of script) {
      assert.equal(
        (await redisCli(port, ...command.split(" "))).replaceAll("\r", ""),
        reply,
        command,
      );
    }
    await until("b to expire", async () => await redisCli(port, "get", "b") === "");
    const transaction = connect(port, "127.0.0.1");
    cleanUp(t, () => void transaction.destroy());
    let text = "";
    transaction.on("data", (data) => text += data);
    transaction.write("MULTI\r\nINCR a\r\n*2\r\n$3\r\nGET\r\n$1\r");
    await until("the first half", () => text === "+OK\r\n+QUEUED\r\n");
    await reload();
    transaction.write("\na\r\nEXEC\r\n");
    await until(
      "the second half",
      () => text === "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n:3\r\n$1\r\n3\r\n",
    );
    assert.equal(
      await redisCli(port, "lrange", "l", "0", "-1"),
      "0\n1\n2\n3",
      "the data has come along",
    );
    transaction.write("*1\r\n$x\r\n");
    await until(
      "the refusal",
      () => text.endsWith("-ERR Protocol error: expected '$' and a length, got '$x'\r\n"),
    );
  });
}
