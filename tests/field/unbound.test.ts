/**
 * Programs that call `listen()`, but whose server is not bound: they are told so, and a signal ends
 * them as it did before.
 */
import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { Setup } from "../fixtures/unbound.ts";
import type { TestScope } from "../support/clean_up.ts";
import { freePort } from "../support/port.ts";
import { isAlive } from "../support/proc.ts";
import { fixture, startProgram, temporaryFolder } from "../support/program.ts";
import { type Runtime, runtimes } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";

async function start(t: TestScope, runtime: Runtime, setup: Partial<Setup>) {
  const port = await freePort();
  const pidFile = join(temporaryFolder(t), "pid");
  const env = { SETUP: JSON.stringify({ kind: "http", port, ...setup }), PID_FILE: pidFile };
  const program = startProgram(t, runtime, { script: fixture("unbound.ts"), env });
  const { pid } = await program.report("serving");
  const ended = () =>
    until("it to end", () => {
      const { exitCode, signalCode } = program.process;
      return exitCode !== null || signalCode !== null ? { exitCode, signalCode } : undefined;
    });
  return { program, port, pid, pidFile, ended };
}

for (const runtime of runtimes) {
  for (const kind of runtime.servers.filter((kind) => kind !== "adopted")) {
    for (const signal of ["SIGTERM", "SIGINT"] as const) {
      test(`${runtime.name}: ${kind}: one ${signal} ends a program that never looks at its token, and no file stays`, async (t) => {
        const { program, pid, pidFile, ended } = await start(t, runtime, { kind });
        assert.ok(existsSync(pidFile));
        program.signal(pid, signal);
        assert.deepEqual(await ended(), { exitCode: null, signalCode: signal });
        assert.ok(!existsSync(pidFile));
        assert.deepEqual(readdirSync(join(program.runtimeFolder, "reload-self")), []);
      });
    }

    test(`${runtime.name}: ${kind}: a shutdown that does not end the process names the server`, async (t) => {
      const { program, port, pid } = await start(t, runtime, { kind, watch: true });
      program.signal(pid, "SIGTERM");
      await program.line(/^drained shutdown$/);
      const line = await program.line(/still listens on/);
      assert.match(
        line,
        new RegExp(
          `process ${pid}: it still listens on 127\\.0\\.0\\.1:${port}, .*token\\.bind\\(server, \\{ port: ${port} \\}\\)`,
        ),
      );
      assert.ok(isAlive(pid));
    });

    test(`${runtime.name}: ${kind}: one that closes its server by itself hears nothing`, async (t) => {
      const { program, pid, ended } = await start(t, runtime, { kind, watch: true, close: true });
      program.signal(pid, "SIGTERM");
      assert.deepEqual(await ended(), { exitCode: 0, signalCode: null });
      assert.deepEqual(program.lines.filter((line) => /listens/.test(line)), []);
    });

    test(`${runtime.name}: ${kind}: a reload that fails names the server, and it serves on`, async (t) => {
      const { program, port, pid } = await start(t, runtime, { kind });
      program.signal(pid);
      const line = await program.line(/reload failed/);
      assert.match(line, new RegExp(`127\\.0\\.0\\.1:${port}.*token\\.bind\\(server, `));
      assert.equal(await (await fetch(`http://127.0.0.1:${port}/`)).text(), "hello");
    });
  }

  test(`${runtime.name}: one that listens nowhere and never looks at its token is ended, too`, async (t) => {
    const { program, pid, ended } = await start(t, runtime, { kind: "none" });
    program.signal(pid, "SIGTERM");
    assert.deepEqual(await ended(), { exitCode: null, signalCode: "SIGTERM" });
  });

  test(`${runtime.name}: one that still starts may look at its token later`, async (t) => {
    const { program, pid, ended } = await start(t, runtime, {
      kind: "none",
      watch: true,
      late: 300,
    });
    program.signal(pid, "SIGTERM");
    await program.line(/^drained shutdown$/);
    program.signal(pid, "SIGKILL"); // Its timer keeps it alive.
    assert.deepEqual(await ended(), { exitCode: null, signalCode: "SIGKILL" });
  });

  for (
    const handler of runtime.kind === "deno" ? ["process", "Deno"] as const : ["process"] as const
  ) {
    test(`${runtime.name}: a program with a handler of its own (${handler}) ends as that says`, async (t) => {
      const { program, pid, ended } = await start(t, runtime, { handler });
      program.signal(pid, "SIGTERM");
      assert.deepEqual(await ended(), { exitCode: 7, signalCode: null });
      assert.deepEqual(program.lines.filter((line) => line === "handled").length, 1);
    });
  }

  test(`${runtime.name}: a unix socket is named, too`, async (t) => {
    const path = join(temporaryFolder(t), "app.sock");
    const { program, pid } = await start(t, runtime, {
      path,
      watch: true,
      options: { readyTimeout: 2_000 },
    });
    program.signal(pid);
    assert.match(
      await program.line(/reload failed/),
      /app\.sock by itself, .*token\.bind\(server, \{ path: ".*app\.sock" \}\)/,
    );
    program.signal(pid, "SIGTERM");
    await program.line(/it still listens on .*app\.sock, /);
  });

  test(`${runtime.name}: Express 5, whose listen error goes to a callback, ends with 0: the reload says why, and it serves on`, async (t) => {
    const { program, port, pid } = await start(t, runtime, { kind: "express" });
    await program.line(/^listens$/);
    program.signal(pid);
    await program.line(/^does not listen$/);
    const line = await program.line(/reload failed/);
    assert.match(line, new RegExp(`exited with code 0 .*127\\.0\\.0\\.1:${port}.*token\\.bind`));
    assert.doesNotMatch(line, /stderr says why/);
    assert.equal((await fetch(`http://127.0.0.1:${port}/`)).status, 404);
  });

  test(`${runtime.name}: a new version that ignores the error, and waits, is never in charge`, async (t) => {
    const { program, port, pid } = await start(t, runtime, {
      kind: "express",
      watch: true,
      options: { readyTimeout: 8_000 },
    });
    await program.line(/^listens$/);
    program.signal(pid);
    await program.line(/^does not listen$/);
    const line = await program.line(/reload failed/);
    assert.match(
      line,
      new RegExp(`not in charge within 8000 ms.*127\\.0\\.0\\.1:${port}.*token\\.bind`),
    );
    assert.equal((await fetch(`http://127.0.0.1:${port}/`)).status, 404);
  });

  // On Deno and Bun connections to such a port are steered, and its socket is taken away at once.
  if (runtime.kind !== "node") continue;
  test(`${runtime.name}: a process that was replaced, and still listens, accepts nothing more`, async (t) => {
    const { program, port, pid } = await start(t, runtime, {
      kind: "http",
      watch: true,
      reusePort: true,
      options: { probation: 100, idleGrace: 100 },
    });
    program.signal(pid);
    const next = await program.report("serving", { generation: 1 });
    await program.line(
      new RegExp(`process ${pid}: it listens on .*:${port} by itself: that is not handed over`),
    );
    const line = await program.line(/still listens on/);
    assert.match(
      line,
      new RegExp(`process ${pid}: .*accepts nothing there any more: pid ${next.pid} is in charge$`),
    );
    await until("it to end, as nothing keeps it", () => !isAlive(pid));
    for (let i = 0; i < 20; i++) {
      assert.equal(await (await fetch(`http://127.0.0.1:${port}/`)).text(), "hello");
    }
  });
}
