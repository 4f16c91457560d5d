/** `reload-self run --auto --socket`: the socket outlives a program that does not know of it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { startClients } from "../frameworks/load.ts";
import { cleanUp } from "../support/clean_up.ts";
import { cli } from "../support/cli.ts";
import { freePort } from "../support/port.ts";
import { isAlive } from "../support/proc.ts";
import { fixture, startProgram } from "../support/program.ts";
import { oneOfEachKind } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";

/** Half of them keep their connections. */
const CLIENTS = 4;
/** What a client of a process that was killed may see. */
const LOST =
  /^(new|kept): (ECONNRESET|(truncated answer: )?(closed without an answer|ECONNRESET))$/;

for (const runtime of oneOfEachKind) {
  for (const kind of runtime.kind === "node" ? ["ws"] : ["ws", runtime.kind]) {
    const server = kind === "ws" ? "node:http" : `${kind === "bun" ? "Bun" : "Deno"}.serve`;
    test(`${runtime.name}, ${server}: run --auto --socket: kill -9 refuses nobody, and a reload loses nothing`, async (t) => {
      const port = await freePort();
      const wrap = [
        ...cli(runtime),
        "run",
        "--auto",
        "--probation",
        "200ms",
        "--socket",
        `127.0.0.1:${port}`,
        "--",
      ];
      const program = startProgram(t, runtime, {
        command: [...wrap, runtime.executable, ...runtime.flags, fixture("auto_web_sockets.mjs")],
        env: { KIND: kind, PORT: String(port) },
      });
      let { pid } = await program.report("serving");
      const clients = startClients(port, CLIENTS / 2);
      cleanUp(t, () => clients.stop());
      const answered = (by: number) =>
        until(`process ${by} to answer`, () => (clients.answers.get(by) ?? 0) > 20);
      await answered(pid);
      for (let i = 0; i < 2; i++) {
        const from = program.reports.length;
        program.signal(pid, "SIGKILL");
        pid = (await program.report("serving", {}, from)).pid;
        await answered(pid);
      }
      assert.deepEqual(
        [...clients.errors.keys()].filter((error) => !LOST.test(error)),
        [],
        program.lines.join("\n"),
      );
      const lost = new Map(clients.errors);
      for (let i = 0; i < 2; i++) {
        const [from, old] = [program.reports.length, pid];
        program.signal(program.process.pid as number);
        pid = (await program.report("serving", {}, from)).pid;
        await answered(pid);
        await until("the old process to be gone", () => !isAlive(old));
      }
      await clients.stop();
      assert.deepEqual(clients.errors, lost, program.lines.join("\n"));
      program.signal(program.process.pid as number, "SIGTERM");
      // By the signal, as without it.
      await until("it to end", () => program.process.exitCode === 143);
      await until("all to be gone", () => program.pids().length === 0);
    });
  }
}
