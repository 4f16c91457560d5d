/**
 * The servers of the runtimes finish what is under way, for as long as `drainTimeout`, and not
 * longer.
 */
import assert from "node:assert/strict";
import { connect, type Socket } from "node:net";
import { describe, test, type TestContext } from "node:test";
import { openConnection } from "../load/http1.ts";
import { cleanUp } from "../support/clean_up.ts";
import { cli } from "../support/cli.ts";
import { freePort } from "../support/port.ts";
import { isAlive } from "../support/proc.ts";
import { fixture, type Program, startProgram } from "../support/program.ts";
import { oneOfEachKind, type Runtime } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";

/** Who made the server: the program, `serve()`, or `reload-self serve`. */
type Owner = "own" | "own, at once" | "serve()" | "cli";

interface Started {
  readonly program: Program;
  readonly port: number;
  readonly pid: number;
}

async function start(
  t: TestContext,
  runtime: Runtime,
  owner: Owner,
  options: object = {},
): Promise<Started> {
  const port = await freePort();
  const env = {
    PORT: String(port),
    HOST: "127.0.0.1",
    ...(owner !== "cli" && { OPTIONS: JSON.stringify(options) }),
    ...(owner === "serve()" && { SERVE: "1" }),
    ...(owner === "own, at once" && { AT_ONCE: "1" }),
  };
  if (owner === "cli") {
    const program = startProgram(t, runtime, {
      command: [...cli(runtime), "serve", fixture("native_app.ts")],
      env,
    });
    return {
      program,
      port,
      pid: Number(/pid (\d+)/.exec(await program.line(/^Listening on/))?.[1]),
    };
  }
  const program = startProgram(t, runtime, { script: fixture("native.ts"), env });
  return { program, port, pid: (await program.report("serving")).pid };
}

/** A connection of which only what it receives is of interest. */
function send(
  t: TestContext,
  port: number,
  text: string,
): { readonly socket: Socket; readonly received: string; readonly isClosed: boolean } {
  const socket = connect(port, "127.0.0.1");
  cleanUp(t, () => socket.destroy());
  let received = "";
  let isClosed = false;
  socket.setEncoding("latin1").on("data", (data) => received += data).on("error", () => {});
  socket.on("end", () => isClosed = true).on("close", () => isClosed = true);
  socket.write(text);
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

const STREAM = "GET /stream HTTP/1.1\r\nHost: test\r\n\r\n";
const UPGRADE = "GET /ws HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
  "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

const ownersOf = ({ kind }: Runtime): readonly Owner[] =>
  kind === "node"
    ? ["serve()"]
    : kind === "deno"
    ? ["own", "own, at once", "serve()"]
    : ["own", "serve()"];

/**
 * What keeps a process: an event stream, a handler that never returns, an upload that does not end,
 * a WebSocket that was not registered.
 */
const KEEPS: Readonly<Record<string, { text: string; begins: RegExp }>> = {
  "an event stream": { text: STREAM, begins: /tick/ },
  "a handler that never returns": {
    text: "GET /never HTTP/1.1\r\nHost: test\r\n\r\n",
    begins: /^/,
  },
  "an upload without an end": {
    text: "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 9\r\n\r\nabc",
    begins: /^/,
  },
};
const WEB_SOCKET = { text: UPGRADE, begins: /101 Switching/ };

for (const runtime of oneOfEachKind) {
  for (const owner of ownersOf(runtime)) {
    for (const signal of ["SIGHUP", "SIGTERM"] as const) {
      const keeps = { ...KEEPS, ...(owner === "own" && { "a WebSocket": WEB_SOCKET }) };
      for (const [what, { text, begins }] of Object.entries(keeps)) {
        // Deno answers this with 500 when it is closed at once, and then waits for the rest of it.
        if (owner === "own, at once" && what === "an upload without an end") continue;
        test(`${runtime.name}, ${owner}: ${signal}: ${what} is cut after drainTimeout, and the process leaves`, async (t) => {
          const { program, port, pid } = await start(t, runtime, owner, {
            probation: 100,
            idleGrace: 100,
            drainTimeout: 400,
          });
          const client = send(t, port, text);
          await until("it to begin", () => begins.test(client.received));
          // What was sent before is read when this is answered.
          const other = await openConnection({ port });
          other.write("GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
          await other.answer();
          program.signal(pid, signal);
          // Deno's process waits for no WebSocket.
          if (what !== "a WebSocket" || runtime.kind === "bun") {
            const cut = await program.report("drain-cut", { generation: 0 });
            assert.deepEqual([cut.connections, cut.milliseconds], [1, 400]);
          }
          await until("the connection to be closed", () => client.isClosed);
          await until("the process to be gone", () => !isAlive(pid));
          if (signal === "SIGTERM") {
            await until("all processes to be gone", () => program.pids().length === 0);
          }
        });
      }
    }
  }
}

// All at once: each takes half a minute.
describe("default options", { concurrency: true }, () => {
  for (const runtime of oneOfEachKind) {
    const owners: readonly Owner[] = runtime.kind === "node" ? ["cli"] : ["own", "cli"];
    for (const owner of owners) {
      test(`${runtime.name}, ${owner}: an event stream holds the process for drainTimeout only`, async (t) => {
        const { program, port, pid } = await start(t, runtime, owner);
        const client = send(t, port, STREAM);
        await until("the stream to begin", () => /tick/.test(client.received));
        const begun = performance.now();
        program.signal(pid, "SIGTERM");
        await until("the process to be gone", () => !isAlive(pid));
        assert.ok(performance.now() - begun > 29_000, "not before drainTimeout");
      });
    }
  }
});

for (const runtime of oneOfEachKind) {
  // To close a server of Deno's at once is what a program must not do: its own uploads get 500.
  for (const owner of ownersOf(runtime).filter((owner) => owner !== "own, at once").concat("cli")) {
    test(`${runtime.name}, ${owner}, default options: an upload that outlives the probation is answered`, async (t) => {
      const { program, port, pid } = await start(t, runtime, owner);
      const upload = await openConnection({ port });
      upload.write("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 9\r\n\r\nabc");
      const chunked = await openConnection({ port });
      chunked.write(
        "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
      );
      const stream = send(t, port, STREAM);
      await until("the stream to begin", () => /tick/.test(stream.received));
      program.signal(pid);
      await until("the old process to accept no more", async () => {
        const other = await openConnection({ port });
        other.write("GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        return (await other.answer()).headers.get("x-generation") === "1";
      });
      if (owner !== "cli") await program.report("cancel", { generation: 0 });
      // Twenty ticks of the old process are 0.4 s of its time; those of the probation come before.
      const ticks = () => stream.received.split("tick").length;
      const seen = ticks();
      await until("the old process to go on", () => ticks() > seen + (owner === "cli" ? 80 : 20));
      upload.write("def");
      chunked.write("3\r\ndef\r\n");
      const after = ticks();
      await until("the old process to read that", () => ticks() > after + 5);
      upload.write("ghi");
      chunked.write("3\r\nghi\r\n0\r\n\r\n");
      for (const connection of [upload, chunked]) {
        const { status, body, headers } = await connection.answer();
        assert.deepEqual([status, body, headers.get("x-generation")], [200, "abcdefghi", "0"]);
      }
      stream.socket.destroy();
      await until("the old process to be gone", () => !isAlive(pid));
    });
  }
}

for (const runtime of oneOfEachKind) {
  for (const signal of ["SIGHUP", "SIGTERM"] as const) {
    test(`${runtime.name}, serve(): ${signal}: after an upload that outlasts idleGrace, the next request on its connection is answered`, async (t) => {
      const { program, port, pid } = await start(t, runtime, "serve()", {
        probation: 100,
        idleGrace: 500,
      });
      const upload = await openConnection({ port });
      upload.write("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 9\r\n\r\nabc");
      const stream = send(t, port, STREAM);
      await until("the stream to begin", () => /tick/.test(stream.received));
      program.signal(pid, signal);
      await program.report("cancel", { generation: 0 });
      // A tick is 20 ms of the old process, and idleGrace is 500 ms, or 1 s after SIGTERM.
      const ticks = () => stream.received.split("tick").length;
      const seen = ticks();
      await until("the time of an idle connection to be over", () => ticks() > seen + 75);
      stream.socket.destroy();
      upload.write("defghi");
      const { body, headers } = await upload.answer();
      assert.deepEqual([body, headers.get("x-generation")], ["abcdefghi", "0"]);
      if (headers.get("connection") !== "close") {
        upload.write("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        assert.equal((await upload.answer()).headers.get("connection"), "close");
      }
      await until("the old process to be gone", () => !isAlive(pid));
    });
  }
}
