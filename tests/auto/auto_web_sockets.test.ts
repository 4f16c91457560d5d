/** WebSockets of programs below the preload: they are told to go, and nothing else is lost. */
import assert from "node:assert/strict";
import { connect } from "node:net";
import { dirname, join } from "node:path";
import { test, type TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import { WebSocket as WsClient } from "ws";
import { startClients } from "../frameworks/load.ts";
import { cleanUp } from "../support/clean_up.ts";
import { freePort } from "../support/port.ts";
import { isAlive } from "../support/proc.ts";
import { fixture, startProgram } from "../support/program.ts";
import { type Runtime, runtimes } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";

const auto = join(dirname(fileURLToPath(import.meta.url)), "../../auto.ts");
const flag = { node: "--import", bun: "--preload", deno: "--preload" } as const;
const RELOADS = 3;
const SOCKETS = 20;

type Kind = "ws" | "bun" | "deno";
const kindsOf = ({ kind }: Runtime): readonly Kind[] => kind === "node" ? ["ws"] : ["ws", kind];

async function start(
  t: TestContext,
  runtime: Runtime,
  kind: Kind,
  env: Record<string, string> = {},
) {
  const port = await freePort();
  const program = startProgram(t, runtime, {
    flags: [...runtime.flags, flag[runtime.kind], auto],
    script: fixture("auto_web_sockets.mjs"),
    env: { KIND: kind, PORT: String(port), RELOAD_SELF_PROBATION: "100ms", ...env },
  });
  return { program, port, pid: (await program.report("serving")).pid };
}

/**
 * A client that asks again as soon as it is answered, and connects again when it was told to go.
 */
class Client {
  /** Which processes have answered. */
  readonly answers = new Set<number>();
  readonly codes: number[] = [];
  readonly errors: string[] = [];
  readonly #port: number;
  #socket: WsClient | undefined;
  #isOver = false;

  constructor(t: TestContext, port: number) {
    this.#port = port;
    cleanUp(t, () => this.end());
    this.#connect();
  }

  #connect(): void {
    const socket = this.#socket = new WsClient(`ws://127.0.0.1:${this.#port}/`);
    let sent = 0;
    let answered = 0;
    const ask = () => {
      if (!this.#isOver && socket.readyState === WsClient.OPEN) socket.send(String(++sent));
    };
    socket.on("open", ask);
    socket.on("message", (data) => {
      const [, pid, count] = String(data).split(" ");
      if (Number(count) !== ++answered) this.errors.push(`${count} instead of ${answered}`);
      this.answers.add(Number(pid));
      setTimeout(ask, 10);
    });
    socket.on("error", ({ message }) => this.errors.push(message));
    socket.on("close", (code) => {
      this.codes.push(code);
      if (!this.#isOver) this.#connect();
    });
  }

  end(): void {
    this.#isOver = true;
    this.#socket?.terminate();
  }
}

for (const runtime of runtimes) {
  for (const kind of kindsOf(runtime)) {
    const title = (text: string) => `${runtime.name}, ${kind}: auto: ${text}`;

    test(
      title("WebSockets are closed with 1001, once in a reload, and no request is lost"),
      async (t) => {
        const { program, port, pid: first } = await start(t, runtime, kind);
        const clients = Array.from({ length: SOCKETS }, () => new Client(t, port));
        const requests = startClients(port, 4);
        cleanUp(t, () => requests.stop());
        let pid = first;
        for (let i = 0; i <= RELOADS; i++) {
          await until(
            "all to be answered",
            () => requests.answers.has(pid) && clients.every(({ answers }) => answers.has(pid)),
          );
          if (i === RELOADS) {
            break;
          }
          const old = pid;
          program.signal(old);
          pid = (await program.report("serving", (report) =>
            report.pid !== old, program.reports.length)).pid;
          await until("the old process to be gone", () =>
            !isAlive(old));
        }
        await requests.stop();
        for (const { codes, errors } of clients) {
          assert.deepEqual(errors, []);
          assert.deepEqual(
            codes,
            Array.from({ length: RELOADS }, () => 1001),
            program.lines.join("\n"),
          );
        }
        assert.deepEqual([...requests.errors], [], program.lines.join("\n"));
        assert.deepEqual(program.lines, []);
        program.signal(pid, "SIGTERM");
        await until("the last close", () => clients.every(({ codes }) => codes.length > RELOADS));
        assert.deepEqual(clients.map(({ codes }) => codes[RELOADS]), clients.map(() => 1001));
        for (const client of clients) client.end();
        await until("all to be gone", () => program.pids().length === 0);
      },
    );

    test(
      title(
        "a WebSocket whose handshake ends when the process has been replaced is closed with 1001 at once",
      ),
      async (t) => {
        const { program, port, pid } = await start(t, runtime, kind);
        const socket = new WsClient(`ws://127.0.0.1:${port}/wait/1000`);
        cleanUp(t, () => socket.terminate());
        const codes: number[] = [];
        socket.on("close", (code) => codes.push(code));
        await program.report("handshake", { pid });
        program.signal(pid);
        await until("the close", () => codes.length > 0);
        assert.deepEqual(codes, [1001]);
        await until("the old process to be gone", () => !isAlive(pid));
      },
    );

    test(
      title(
        "a client that does not answer the close is cut after drainTimeout, and the old process ends",
      ),
      async (t) => {
        const { program, port, pid } = await start(t, runtime, kind, {
          RELOAD_SELF_DRAIN_TIMEOUT: "2s",
        });
        const socket = connect(port, "127.0.0.1");
        cleanUp(t, () => socket.destroy());
        let received = "";
        let isClosed = false;
        socket.setEncoding("latin1").on("data", (data) => received += data).on("error", () => {});
        socket.on("close", () => isClosed = true);
        socket.write(
          "GET / HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        );
        await until("the handshake", () => received.includes("\r\n\r\n"));
        program.signal(pid);
        await until("the close frame", () => received.includes("\x03\xe9"));
        await until("the end of the connection", () => isClosed);
        await until("the old process to be gone", () => !isAlive(pid));
        assert.equal(
          await (await fetch(`http://127.0.0.1:${port}/`)).text(),
          `pid ${program.pids()[0]}`,
        );
      },
    );
  }
}
