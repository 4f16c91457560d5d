/**
 * Datagram sockets: one socket in all generations, none is lost, none is read twice. All options
 * have their defaults.
 */
import assert from "node:assert/strict";
import { createSocket, type Socket } from "node:dgram";
import { readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { cleanUp, type TestScope } from "../support/clean_up.ts";
import {
  fixture,
  type Program,
  reload,
  startProgram,
  temporaryFolder,
} from "../support/program.ts";
import { type Runtime, runtimes } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";

interface Started extends Program {
  /** What was received, and by which generation, in its order. */
  received(): { generation: number; number: number }[];
}

function start(
  t: TestScope,
  runtime: Runtime,
  kind: Kind,
  env: Record<string, string> = {},
  flags: readonly string[] = runtime.flags,
): Started {
  const file = join(temporaryFolder(t), "received");
  writeFileSync(file, "");
  const program = startProgram(t, runtime, {
    script: fixture("datagrams.ts"),
    flags,
    env: { KIND: kind, RECEIVED: file, ...env },
  });
  return {
    ...program,
    received: () =>
      readFileSync(file, "utf8").split("\n").slice(0, -1).map((line) => {
        const [generation, number] = line.split(" ").map(Number) as [number, number];
        return { generation, number };
      }),
  };
}

async function openClient(t: TestScope, host = "127.0.0.1"): Promise<Socket> {
  const socket = createSocket(host.includes(":") ? "udp6" : "udp4");
  let isOpen = true;
  socket.on("close", () => isOpen = false);
  cleanUp(t, () => isOpen && socket.close());
  await new Promise<void>((resolve) => socket.bind({ port: 0, address: host }, resolve));
  return socket;
}

/**
 * How many datagrams may be unanswered. The buffer of a socket has room for more: none is lost by
 * being too many.
 */
const WINDOW = 64;

/** Sends numbered datagrams until it is stopped. */
async function openStream(t: TestScope, host: string, port: number) {
  const socket = await openClient(t, host);
  const answered = new Set<number>();
  const from = new Set<string>();
  let sent = 0;
  socket.on("message", (data, { address, port }) => {
    answered.add(Number(String(data)));
    from.add(`${address} ${port}`);
  });
  const timer = setInterval(() => {
    for (let i = 0; i < 8 && sent - answered.size < WINDOW; i++) {
      socket.send(String(sent++), port, host);
    }
  }, 2);
  cleanUp(t, () => clearInterval(timer));
  return {
    answered,
    from,
    /** Resolves when more have been answered. */
    more: () => {
      const before = answered.size;
      return until("answers", () => answered.size > before + 20);
    },
    /** Stops. Returns how many were sent. */
    stop() {
      clearInterval(timer);
      return sent;
    },
  };
}

/** The inodes of the UDP sockets with this port. */
function socketsAt(port: number): string[] {
  const name = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  return ["udp", "udp6"].flatMap((table) =>
    readFileSync(`/proc/net/${table}`, "utf8").split("\n").slice(1).map((line) =>
      line.trim().split(/\s+/)
    )
      .filter(([, local]) => local?.endsWith(name)).map((fields) => fields[9] as string)
  );
}

function descriptorsOf(pid: number): string[] {
  const folder = `/proc/${pid}/fd`;
  return readdirSync(folder).map((fd) => {
    try {
      return `${fd} ${readlinkSync(`${folder}/${fd}`)}`;
    } catch {
      return `${fd} closed`;
    }
  });
}

/** Each number is there, and there once. */
function checkNumbers(program: Started, sent: number): void {
  const numbers = program.received().map(({ number }) => number);
  const all = new Set(numbers);
  const missing = Array.from({ length: sent }, (_, i) => i).filter((i) => !all.has(i));
  assert.deepEqual(missing.slice(0, 10), [], `${missing.length} of ${sent} are lost`);
  assert.equal(numbers.length, sent, "none is read twice");
}

type Kind = "dgram" | "native";
const kinds = runtimes.flatMap((runtime) =>
  (runtime.kind === "node" ? ["dgram"] as const : ["dgram", "native"] as const).map((kind) => ({
    runtime,
    kind,
    name: `${runtime.name}, ${
      kind === "dgram"
        ? "node:dgram"
        : runtime.kind === "bun"
        ? "Bun.udpSocket"
        : "Deno.listenDatagram"
    }`,
  }))
);

for (const { runtime, kind, name } of kinds) {
  test(`${name}: a stream of datagrams across ten reloads, three of them rolled back`, async (t) => {
    const program = start(t, runtime, kind);
    let current = await program.report("serving");
    const { address } = current;
    const stream = await openStream(t, "127.0.0.1", address.port);
    await stream.more();
    const sockets = socketsAt(address.port);
    assert.equal(sockets.length, 1);
    for (
      const behaviour of [
        "run",
        "run",
        "crash",
        "run",
        "crash-late",
        "run",
        "die",
        "run",
        "run",
        "run",
      ]
    ) {
      program.behave(behaviour);
      if (behaviour === "run") {
        current = await reload(program, current);
        assert.deepEqual(current.address, address);
      } else {
        const from = program.reports.length;
        program.signal(current);
        const { wasInCharge } = await program.report("reload-fail", {}, from);
        assert.equal(wasInCharge, behaviour === "die");
      }
      await stream.more();
      assert.deepEqual(socketsAt(address.port), sockets, "one socket, and one queue");
    }
    const sent = stream.stop();
    assert.ok(sent > 1000, `only ${sent} were sent`);
    await until("the last one", () => program.received().length >= sent);
    checkNumbers(program, sent);
    const generations = new Set(program.received().map(({ generation }) => generation));
    assert.deepEqual([...generations], [0, 1, 2, 3, 4, 5, 6, 7], "each has received some");
    assert.deepEqual([...stream.from], [`127.0.0.1 ${address.port}`]);
    assert.deepEqual(program.reports.filter(({ type }) => type === "warning"), []);
    program.signal(current, "SIGTERM");
    await until("all processes to be gone", () => program.pids().length === 0);
    assert.deepEqual(socketsAt(address.port), []);
  });

  test(`${name}: the state has what the old process has received, and nothing else`, async (t) => {
    const program = start(t, runtime, kind, { STATE: "1" });
    let current = await program.report("serving");
    const stream = await openStream(t, "127.0.0.1", current.address.port);
    for (let i = 0; i < 4; i++) {
      await stream.more();
      current = await reload(program, current);
    }
    await stream.more();
    const sent = stream.stop();
    await until("the last one", () => program.received().length >= sent);
    checkNumbers(program, sent);
    program.signal(current, "SIGTERM");
    const { count } = await program.report("drained", { pid: current.pid });
    assert.equal(count, sent);
  });

  test(`${name}: IPv6, and as many descriptors after five reloads as after one`, async (t) => {
    const program = start(t, runtime, kind, { HOST: "::1" });
    let current = await program.report("serving");
    const { address } = current;
    const stream = await openStream(t, "::1", address.port);
    let descriptors = 0;
    for (let i = 0; i < 5; i++) {
      await stream.more();
      current = await reload(program, current);
      assert.deepEqual(current.address, address);
      if (i === 0) descriptors = descriptorsOf(current.pid).length;
    }
    // The channel to the old process is closed a moment after its end.
    await until(
      "no more descriptors than after one",
      () => descriptorsOf(current.pid).length <= descriptors,
    );
    const link = `socket:[${socketsAt(address.port)[0]}]`;
    assert.equal(descriptorsOf(current.pid).filter((name) => name.endsWith(link)).length, 1);
    await stream.more();
    const sent = stream.stop();
    await until("the last one", () => program.received().length >= sent);
    checkNumbers(program, sent);
  });

  test(`${name}: the old process is killed before it has sent its socket: the new one opens one at the same address`, async (t) => {
    const program = start(t, runtime, kind);
    const first = await program.report("serving");
    const { port } = first.address;
    program.signal(first);
    await program.report("successor-start");
    program.signal(first, "SIGKILL");
    const next = await program.report("serving", { generation: 1 });
    assert.deepEqual(next.address, first.address);
    await until("a socket to be there", () => socketsAt(port).length === 1);
    const stream = await openStream(t, "127.0.0.1", port);
    await stream.more();
    const last = await reload(program, next);
    await stream.more();
    stream.stop();
    assert.deepEqual(last.address, first.address);
  });

  test(`${name}: answers that come late leave from the socket, at a reload and at a shutdown; then the process ends`, async (t) => {
    const program = start(t, runtime, kind);
    const first = await program.report("serving");
    const { port } = first.address;
    const client = await openClient(t);
    const answers: string[] = [];
    client.on("message", (data, { port }) => answers.push(`${data} from ${port}`));
    const slow = async () => {
      const before = program.received().length;
      client.send("-1", port, "127.0.0.1");
      await until("it to be received", () => program.received().length > before);
    };
    await slow();
    const next = await reload(program, first);
    await until("its answer", () => answers.length === 1);
    await slow();
    program.signal(next, "SIGTERM");
    await until("all processes to be gone", () => program.pids().length === 0);
    await until("the second answer", () => answers.length === 2);
    assert.deepEqual(answers, [`-1 from ${port}`, `-1 from ${port}`]);
    if (kind === "native" && runtime.kind === "deno") {
      await program.report("end", { pid: next.pid });
    }
  });

  test(`${name}: a version that has no such socket any more`, async (t) => {
    const program = start(t, runtime, kind);
    const first = await program.report("serving");
    const { port } = first.address;
    program.behave("none");
    program.signal(first);
    await program.report("reload-end");
    await until("the port to be free", () => socketsAt(port).length === 0);
    assert.deepEqual(program.reports.filter(({ type }) => type === "warning"), []);
  });

  test(`${name}: a socket stays connected, and may be connected again`, async (t) => {
    const client = await openClient(t);
    const program = start(t, runtime, kind, { CONNECT: String(client.address().port) });
    let current = await program.report("serving");
    const { port } = current.address;
    const answers: string[] = [];
    client.on("message", (data, { port }) => answers.push(`${data} from ${port}`));
    for (let i = 0; i < 3; i++) {
      client.send(String(i), port, "127.0.0.1");
      await until("an answer", () => answers.length > i);
      assert.deepEqual(answers[i], `${i} from ${port}`);
      current = await reload(program, current);
    }
  });

  test(`${name}: a socket stays a member of its group, and may join again`, async (t) => {
    const program = start(t, runtime, kind, { HOST: "0.0.0.0", GROUP: "239.1.2.3" });
    let current = await program.report("serving");
    const { port } = current.address;
    const client = await openClient(t);
    client.setMulticastInterface("127.0.0.1");
    let answers = 0;
    client.on("message", () => answers++);
    for (let i = 0; i < 3; i++) {
      client.send(String(i), port, "239.1.2.3");
      await until("an answer", () => answers > i);
      current = await reload(program, current);
    }
    checkNumbers(program, 3);
  });
}

for (const { runtime, kind, name } of kinds.filter(({ runtime }) => runtime.kind === "deno")) {
  test(`${name}: without --allow-ffi the socket is not handed over, and the message says what to add`, async (t) => {
    const flags = [
      "run",
      "--quiet",
      "--allow-net",
      "--allow-env",
      "--allow-read",
      "--allow-write",
      "--allow-run",
      "--unstable-net",
    ];
    const free = await openClient(t);
    const { port } = free.address();
    await new Promise<void>((resolve) => free.close(resolve));
    const program = start(t, runtime, kind, { PORT: String(port) }, flags);
    const first = await program.report("serving");
    program.signal(first);
    const { error } = await program.report("reload-fail");
    assert.match(error.message, /receives on udp.* which cannot be handed over: .*add --allow-ffi/);
    const warnings = program.reports.filter(({ type }) => type === "warning").map(({ message }) =>
      message
    );
    assert.equal(warnings.length, 1);
    assert.match(
      warnings[0],
      /is not handed over: Deno does not allow foreign function calls; add --allow-ffi/,
    );
    const stream = await openStream(t, "127.0.0.1", first.address.port);
    await stream.more();
  });
}

for (const runtime of runtimes) {
  test(`${runtime.name}: what is wrong with a bind of a datagram socket`, async (t) => {
    const taken = await openClient(t);
    const program = start(t, runtime, "dgram", { WRONG: String(taken.address().port) });
    const { messages } = await program.report("wrong");
    assert.match(
      messages.path,
      /TypeError: bind: a datagram socket takes a port and a host, not path/,
    );
    assert.match(
      messages.backlog,
      /TypeError: bind: a datagram socket takes a port and a host, not backlog/,
    );
    assert.match(messages.host, /TypeError: bind: host must be a string/);
    assert.match(messages.taken, /EADDRINUSE/);
    assert.match(messages.twice, /already bound|ERR_SOCKET_ALREADY_BOUND/i);
  });
}
