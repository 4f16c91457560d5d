/** WebSockets that move to the new process: those of ws, and those of the runtime's own server. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { connect } from "node:net";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import { test, type TestContext } from "node:test";
import { WebSocket as WsClient } from "ws";
import { pinned } from "../pinned.mjs";
import { cleanUp } from "../support/clean_up.ts";
import { isAlive } from "../support/proc.ts";
import { fixture, type Program, type Report, startProgram } from "../support/program.ts";
import { oneOfEachKind, type Runtime } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";

/** A client of the chat. */
interface Client {
  readonly socket: WebSocket;
  readonly name: string;
  /** What it has heard: the name of the sender, its count, and the text. */
  readonly heard: [name: string, count: number, text: string][];
  closed: number | undefined;
}

/** The client of ws, which has the interface of browsers as well. */
const Ws = WsClient as unknown as typeof WebSocket;

async function join(
  t: TestContext,
  port: number,
  name: string,
  Client = Ws,
  protocols: string[] = [],
): Promise<Client> {
  const socket: WebSocket = new Client(`ws://127.0.0.1:${port}/${name}`, protocols);
  cleanUp(t, () => socket.close());
  const client: Client = { socket, name, heard: [], closed: undefined };
  socket.addEventListener("message", ({ data }) => {
    const [name = "", count, text = ""] = String(data).split(" ");
    client.heard.push([name, Number(count), text]);
  });
  socket.addEventListener("close", ({ code }) => client.closed = code);
  await new Promise((resolve, reject) => {
    socket.addEventListener("open", resolve);
    socket.addEventListener("error", reject);
  });
  return client;
}

/** Says something as soon as it has heard what it said before. */
async function talk({ socket, name, heard }: Client, isOver: () => boolean): Promise<number> {
  let said = 0;
  for (; !isOver(); said++) {
    socket.send(`text-${said}`);
    await until(
      "its own words",
      () => heard.some(([by, count]) => by === name && count === said + 1),
    );
    heard.splice(0, heard.length, ...heard.filter(([by]) => by !== name)); // To be found fast.
  }
  return said;
}

/** Whose WebSockets they are. */
type Kind = "ws" | "native";

const kindsOf = ({ kind }: Runtime): readonly Kind[] =>
  kind === "node" ? ["ws"] : kind === "deno" ? ["ws", "native"] : ["native"];

async function begin(t: TestContext, runtime: Runtime, kind: Kind, options: object = {}) {
  const env = { OPTIONS: JSON.stringify(options), ...(kind === "native" && { NATIVE: "1" }) };
  const program = startProgram(t, runtime, { script: fixture("chat.ts"), env });
  const { pid, port } = await program.report("serving");
  return { program, pid, port: port as number };
}

/** Reloads, and returns the first report of the new process. */
async function reload(
  program: Program,
  pid: number,
  generation: number,
  expected: object,
): Promise<Report> {
  program.signal(pid);
  const { moved, left } = await program.report("connections-move", { pid });
  assert.deepEqual({ moved, left }, expected);
  await until("the old process to be gone", () => !isAlive(pid));
  return await program.report("serving", { generation });
}

/** Those that have moved after the others. */
const latecomers = (program: Program): string[] =>
  program.reports.filter(({ type }) => type === "late").map(({ name }) => name);

for (const runtime of oneOfEachKind) {
  for (const kind of kindsOf(runtime)) {
    test(`${runtime.name}, ${kind}: a chat of 1,000 goes through five reloads and two crashes: each message once, in order`, async (t) => {
      const { program, pid: first, port } = await begin(t, runtime, kind);
      let pid = first;
      const listeners = await Promise.all(
        Array.from({ length: 994 }, (_, i) => join(t, port, `listener${i}`)),
      );
      const speakers = await Promise.all(
        // ws, and the runtime's own.
        Array.from({ length: 6 }, (_, i) => join(t, port, `speaker${i}`, i < 3 ? Ws : WebSocket)),
      );
      let isOver = false;
      const talks = speakers.map((speaker) => talk(speaker, () => isOver));
      for (let generation = 1; generation <= 5; generation++) {
        if (generation % 2 === 0) {
          const before = program.reports.length;
          program.behave("crash");
          program.signal(pid);
          await program.report("reload-fail", {}, before);
          program.behave("run");
        }
        pid = (await reload(program, pid, generation, { moved: 1_000, left: 0 })).pid;
      }
      isOver = true;
      const said = await Promise.all(talks);
      const total = said.reduce((sum, count) => sum + count, 0);
      for (const { heard, closed } of listeners) {
        await until("all messages", () => heard.length >= total);
        assert.equal(closed, undefined);
        for (const [i, count] of said.entries()) {
          const texts = heard.filter(([name]) => name === `speaker${i}`);
          assert.deepEqual(
            texts,
            Array.from({ length: count }, (_, n) => [`speaker${i}`, n + 1, `text-${n}`]),
          );
        }
      }
      assert.equal(
        program.reports.some(({ type }) => type === "left"),
        false,
        "the application heard of no end",
      );
    });

    test(`${runtime.name}, ${kind}: the WebSockets of all runtimes notice nothing of a reload`, async (t) => {
      const { program, pid, port } = await begin(t, runtime, kind);
      const clients = Object.entries({ node: ["-e"], deno: ["eval"], bun: ["-e"] }).map(
        ([kind, flags]) => {
          const code = `const socket = new WebSocket("ws://127.0.0.1:${port}/${kind}");
          let n = 0;
          socket.onopen = () => setInterval(() => socket.send(String(n++)), 10);
          socket.onmessage = ({ data }) => data.startsWith("${kind} ") && console.log(data);
          socket.onclose = () => console.log("closed");`;
          const client = spawn(pinned[kind === "node" ? "node26" : kind as "deno" | "bun"], [
            ...flags,
            code,
          ]);
          cleanUp(t, () => void client.kill("SIGKILL"));
          const lines: string[] = [];
          createInterface(client.stdout).on("line", (line) => lines.push(line));
          return { kind, lines };
        },
      );
      await until("the first messages", () => clients.every(({ lines }) => lines.length > 5));
      await reload(program, pid, 1, { moved: 3, left: 0 });
      const before = clients.map(({ lines }) => lines.length);
      await until(
        "more messages",
        () => clients.every(({ lines }, i) => lines.length > (before[i] as number) + 5),
      );
      for (const { kind, lines } of clients) {
        assert.deepEqual(
          lines,
          lines.map((_, i) => `${kind} ${i + 1} ${i}`),
        );
      }
    });

    test(`${runtime.name}, ${kind}: one that is made while the state is saved moves as well`, async (t) => {
      const { program, pid, port } = await begin(t, runtime, kind);
      const before = await join(t, port, "before");
      program.behave("join");
      const moved = reload(program, pid, 1, { moved: 2, left: 0 });
      await program.report("hand-over");
      const late = await join(t, port, "late");
      program.behave("run");
      await moved;
      late.socket.send("one");
      for (const { heard, closed } of [before, late]) {
        await until("the message", () => heard.length === 1);
        assert.equal(closed, undefined);
      }
    });

    for (const independent of [false, true]) {
      test(`${runtime.name}, ${kind}: one whose handshake is answered when the new process is in charge moves as well${independent ? ", by itself" : ""}`, async (t) => {
        const options = { late: true, independent };
        const { program, pid, port } = await begin(t, runtime, kind, options);
        const joined = join(t, port, "late");
        await program.report("asked");
        const moved = reload(program, pid, 1, { moved: 1, left: 0 });
        const client = await joined;
        client.socket.send("one");
        await moved;
        client.socket.send("two");
        await until("both", () => client.heard.length === 2);
        assert.deepEqual(client.heard, [["late", 1, "one"], ["late", 2, "two"]]);
        assert.equal(client.closed, undefined);
      });
    }

    test(`${runtime.name}, ${kind}: reloads that fail in the middle give it back, and a shutdown closes it`, async (t) => {
      const { program, pid, port } = await begin(t, runtime, kind);
      const client = await join(t, port, "client");
      async function say(text: string): Promise<void> {
        const { length } = client.heard;
        client.socket.send(text);
        await until("the echo", () => client.heard.length > length);
      }
      /** Begins a reload that fails at the commit; says something before it does. */
      async function fail(pid: number, text: string): Promise<void> {
        const before = program.reports.length;
        program.behave("slow");
        program.signal(pid);
        await program.report("hand-over", {}, before);
        const said = say(text);
        const child = program.pids().find((other) => other !== pid);
        process.kill(child as number, "SIGKILL");
        await program.report("reload-fail", {}, before);
        await said;
        program.behave("run");
      }
      await say("one");
      await fail(pid, "two");
      await reload(program, pid, 1, { moved: 1, left: 0 });
      const [next] = program.pids() as [number];
      await say("three");
      await fail(next, "four"); // The WebSocket is not one that ws has made here.
      await say("five");
      await reload(program, next, 2, { moved: 1, left: 0 });
      await say("six");
      assert.deepEqual(
        client.heard,
        ["one", "two", "three", "four", "five", "six"].map((text, i) => ["client", i + 1, text]),
      );
      program.signal(program.pids()[0] as number, "SIGTERM");
      await until("the close", () => client.closed === 1001);
      await until("all to be gone", () => program.pids().length === 0);
    });
  }
}

for (const runtime of oneOfEachKind.filter(({ kind }) => kind !== "bun")) {
  test(`${runtime.name}: the subprotocol, compression, half a message, and the close of a WebSocket that has moved`, async (t) => {
    const { program, pid, port } = await begin(t, runtime, "ws", {
      perMessageDeflate: {
        serverNoContextTakeover: true,
        clientNoContextTakeover: true,
        threshold: 0,
      },
    });
    const plain = await join(t, port, "plain", Ws, ["chat.v2", "chat.v1"]);
    assert.equal(plain.socket.protocol, "chat.v2");
    assert.equal(plain.socket.extensions, "permessage-deflate");
    plain.socket.send("before");
    await until("the echo", () => plain.heard.length === 1);
    // deno-lint-ignore no-explicit-any
    const half = (await join(t, port, "half")) as any;
    half.socket.send("one-", { fin: false });
    await until("the half", async () => {
      plain.socket.send("tick");
      const { length } = plain.heard;
      await until("an echo", () => plain.heard.length > length);
      return length > 3;
    });
    program.signal(pid);
    await program.report("in-charge", { generation: 1 });
    half.socket.send("message", { fin: true });
    await until(
      "the message",
      () => half.heard.some(([, , text]: string[]) => text === "one-message"),
    );
    const { moved, left } = await program.report("connections-move", { pid });
    assert.deepEqual({ moved, left }, { moved: 2, left: 0 });
    assert.deepEqual(latecomers(program), ["half"]);
    await until("the old process to be gone", () => !isAlive(pid));
    const { length } = plain.heard;
    plain.socket.send("after");
    await until("the echo", () => plain.heard.length > length);
    assert.equal(plain.heard.at(-1)?.[2], "after");
    plain.socket.close(4000, "enough");
    await program.report("left", { name: "plain", generation: 1 });
    await until("the answer to the close", () => plain.closed === 4000);
  });

  test(`${runtime.name}: a WebSocket whose compression has a context stays, and is closed as going away`, async (t) => {
    const { program, pid, port } = await begin(t, runtime, "ws", {
      perMessageDeflate: { threshold: 0 },
    });
    const [speaker, listener] = await Promise.all([
      join(t, port, "speaker"),
      join(t, port, "listener"),
    ]);
    speaker.socket.send("hello");
    await until("the echo", () => speaker.heard.length === 1 && listener.heard.length === 1);
    const fresh = await join(t, port, "fresh");
    await reload(program, pid, 1, { moved: 1, left: 2 });
    await until("both to be closed", () => speaker.closed === 1001 && listener.closed === 1001);
    fresh.socket.send("hello");
    await until("the echo", () => fresh.heard.length === 1);
  });
}

/** Frames as a client writes them; RFC 6455, section 5.2. The mask is zero. */
function frame(opcode: number, text: string, { fin = true } = {}): Buffer {
  const payload = Buffer.from(text);
  return Buffer.concat([
    Buffer.from([(fin ? 0x80 : 0) | opcode, 0x80 | payload.length, 0, 0, 0, 0]),
    payload,
  ]);
}
const TEXT = 1, PING = 9, CONTINUATION = 0;
/** The code 1001 and the reason, as they are in a frame. */
const GOING_AWAY = "\x03\xe9the server is going away";

/** A client that writes the bytes that it is told to. */
async function joinRaw(t: TestContext, port: number, name: string) {
  const socket = connect(port, "127.0.0.1");
  cleanUp(t, () => socket.destroy());
  let received = "";
  let isClosed = false;
  socket.setEncoding("latin1").on("data", (data) => received += data).on(
    "close",
    () => isClosed = true,
  ).on("error", () => {});
  socket.write(
    `GET /${name} HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
      "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
  );
  await until("the handshake", () => received.includes("\r\n\r\n"));
  return {
    socket,
    get received() {
      return received;
    },
    get isClosed() {
      return isClosed;
    },
  };
}

for (const runtime of oneOfEachKind.filter(({ kind }) => kind !== "node")) {
  test(`${runtime.name}, native: the subprotocol, bytes, pings, half a frame, and the close of a WebSocket that has moved`, async (t) => {
    const { program, pid, port } = await begin(t, runtime, "native");
    const plain = await join(t, port, "plain", Ws, ["chat.v2"]);
    assert.equal(plain.socket.protocol, "chat.v2");
    plain.socket.send(new TextEncoder().encode("bytes"));
    await until("the echo", () => plain.heard.length === 1);
    const half = await joinRaw(t, port, "half");
    const bytes = frame(TEXT, "one-message");
    half.socket.write(bytes.subarray(0, 9));
    const pinging = await joinRaw(t, port, "pinging");
    pinging.socket.write(Buffer.concat([frame(TEXT, "x"), frame(PING, "")]));
    await until("the pong", () => pinging.received.includes("\x8a\0"));
    program.signal(pid);
    await program.report("in-charge", { generation: 1 });
    // The others have moved by then: only this client hears it.
    half.socket.write(bytes.subarray(9));
    await until("the message", () => half.received.includes("one-message"));
    const { moved, left } = await program.report("connections-move", { pid });
    assert.deepEqual({ moved, left }, { moved: 3, left: 0 });
    assert.ok(latecomers(program).includes("half"));
    assert.ok(!latecomers(program).includes("plain"));
    await until("the old process to be gone", () => !isAlive(pid));
    plain.socket.send("after");
    await until("the echo", () => plain.heard.at(-1)?.[2] === "after");
    half.socket.write(frame(TEXT, "again"));
    pinging.socket.write(frame(TEXT, "again"));
    await until("both", () => plain.heard.filter(([, , text]) => text === "again").length === 2);
    plain.socket.close(4000, "enough");
    await program.report("left", { name: "plain", generation: 1 });
    await until("the answer to the close", () => plain.closed === 4000);
  });

  test(`${runtime.name}, native: the application may close what is late`, async (t) => {
    const { program, pid, port } = await begin(t, runtime, "native", { closeLate: true });
    const plain = await join(t, port, "plain");
    const half = await joinRaw(t, port, "half");
    const bytes = frame(TEXT, "one-message");
    half.socket.write(bytes.subarray(0, 9));
    plain.socket.send("tick");
    await until("the echo", () => plain.heard.length === 1);
    program.signal(pid);
    await program.report("in-charge", { generation: 1 });
    half.socket.write(bytes.subarray(9));
    await until("the close", () => half.received.endsWith("\x03\xe9late"));
    await program.report("left", { name: "half" });
    await until("the old process to be gone", () => !isAlive(pid));
    plain.socket.send("after");
    await until("the echo", () => plain.heard.at(-1)?.[2] === "after");
  });

  test(`${runtime.name}, native: a client in the middle of a message is closed as going away, and hears nothing twice`, async (t) => {
    const { program, pid, port } = await begin(t, runtime, "native");
    const plain = await join(t, port, "plain");
    const halves = [
      { client: await joinRaw(t, port, "frame"), bytes: frame(TEXT, "half").subarray(0, 8) },
      { client: await joinRaw(t, port, "fragment"), bytes: frame(TEXT, "half", { fin: false }) },
      {
        client: await joinRaw(t, port, "fragments"),
        bytes: Buffer.concat([frame(TEXT, "a", { fin: false }), frame(CONTINUATION, "b")]),
      },
    ];
    for (const { client, bytes } of halves) client.socket.write(bytes);
    await until("the whole message", () => plain.heard.some(([, , text]) => text === "ab"));
    await reload(program, pid, 1, { moved: 1, left: 3 });
    for (const { client } of halves) {
      await until(
        "a close with 1001",
        () => client.received.includes(GOING_AWAY) && client.isClosed,
      );
    }
    plain.socket.send("after");
    await until("the echo", () => plain.heard.some(([, , text]) => text === "after"));
    assert.equal(plain.heard.filter(([, , text]) => text === "ab").length, 1);
  });

  test(`${runtime.name}, native: WebSockets that move by themselves`, async (t) => {
    const { program, pid: first, port } = await begin(t, runtime, "native", { independent: true });
    const clients = await Promise.all(
      Array.from({ length: 300 }, (_, i) => join(t, port, `client${i}`)),
    );
    let pid = first;
    for (let generation = 1; generation <= 2; generation++) {
      for (const { socket } of clients) socket.send(`in ${generation - 1}`);
      pid = (await reload(program, pid, generation, { moved: 300, left: 0 })).pid;
    }
    for (const { socket } of clients) socket.send("in 2");
    for (const { name, heard, closed } of clients) {
      await until("its own words", () => heard.filter(([by]) => by === name).length === 3);
      assert.deepEqual(heard.filter(([by]) => by === name).map(([, count]) => count), [1, 2, 3]);
      assert.equal(closed, undefined);
    }
  });
}

for (const runtime of oneOfEachKind) {
  test(`${runtime.name}: a client that reads late gets all that was sent, and then the close`, async (t) => {
    const program = startProgram(t, runtime, {
      script: fixture("echo_web_sockets.ts"),
      env: { PROBATION: "300" },
    });
    const { pid, port } = await program.report("serving");
    const client = new WsClient(`ws://127.0.0.1:${port}/`);
    cleanUp(t, () => client.terminate());
    await once(client, "open");
    const heard: string[] = [];
    client.on("message", (data) => heard.push(String(data).split(" ")[0] as string));
    client.send("300");
    await once(client, "message");
    client.pause();
    program.signal(pid);
    await program.report("cancel", { generation: 0 });
    await delay(7_000); // Longer than a client is waited for that has everything.
    client.resume();
    const [code] = await once(client, "close");
    assert.deepEqual(heard, [...Array(300).keys(), 300].map(String));
    assert.equal(code, 1001);
    await until("the old process to be gone", () => !isAlive(pid));
  });
}

for (const runtime of oneOfEachKind.filter(({ kind }) => kind === "bun")) {
  test(`${runtime.name}: a client that may compress still may after two reloads`, async (t) => {
    const program = startProgram(t, runtime, {
      script: fixture("echo_web_sockets.ts"),
      env: { PROBATION: "300", DEFLATE: "1" },
    });
    const { pid, port } = await program.report("serving");
    const client = new WsClient(`ws://127.0.0.1:${port}/`);
    cleanUp(t, () => client.terminate());
    await once(client, "open");
    assert.match(client.extensions, /permessage-deflate/);
    const said = async (text: string) => {
      client.send(text);
      const [data] = await once(client, "message");
      assert.equal(String(data), text);
    };
    let current = pid;
    for (let generation = 1; generation <= 2; generation++) {
      await said(`small ${generation}`); // Sent as it is.
      current = (await reload(program, current, generation, { moved: 1, left: 0 })).pid;
    }
    await said("large ".repeat(1_000));
    // How long that was on the wire is not known: it is closed when it cannot move any more.
    program.signal(current);
    const [code] = await once(client, "close");
    assert.equal(code, 1001);
  });

  test(`${runtime.name}: WebSockets of ws do not move: that is said, and they are closed as going away`, async (t) => {
    const { program, pid, port } = await begin(t, runtime, "ws");
    const { message } = await program.report("warning");
    assert.match(
      message,
      /^liveWebSockets chat: those of ws do not move on Bun, .* closes them with 1001\. Those of Bun\.serve move/,
    );
    const client = await join(t, port, "client");
    client.socket.send("one");
    await until("the echo", () => client.heard.length === 1);
    program.signal(pid);
    await until("the close", () => client.closed === 1001);
    const again = await join(t, port, "again");
    again.socket.send("two");
    await until("the echo", () => again.heard.length === 1);
    await until("the old process to be gone", () => !isAlive(pid));
  });
}
