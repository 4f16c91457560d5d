/** A shutdown that reaches the old process: whenever it comes, it ends the whole program, once. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { openConnection } from "../load/http1.ts";
import { startServer } from "../load/rows.ts";
import { fixture, startProgram, temporaryFolder } from "../support/program.ts";
import { oneOfEachKind } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";

for (const runtime of oneOfEachKind) {
  for (const kind of runtime.servers) {
    for (
      const after of [
        "successor-start",
        "successor-ready",
        "successor-in-charge",
        "reload-end",
        "cancelled",
      ]
    ) {
      test(`${runtime.name}, ${kind}: SIGTERM to the old process a millisecond after ${after}`, async (t) => {
        const pidFile = join(temporaryFolder(t), "server.pid");
        const { program, first } = await startServer(t, runtime, { kind, options: { pidFile } });
        program.signal(first);
        await program.report(after);
        await delay(1);
        program.signal(first, "SIGTERM");
        await until("all processes to be gone", () => program.pids().length === 0);
        const shutdowns = program.reports.filter(({ type, reason }) =>
          type === "cancel" && reason.kind === "shutdown"
        );
        assert.ok(shutdowns.length <= 2, "each process at most once");
        const files = readdirSync(join(program.runtimeFolder, "reload-self"));
        assert.deepEqual(files, [], "no file of theirs is left");
        assert.deepEqual(readdirSync(dirname(pidFile)), []);
      });
    }
  }
}

for (const runtime of oneOfEachKind) {
  for (const kind of runtime.servers.filter((kind) => kind === "http" || kind === "adopted")) {
    for (const after of ["successor-in-charge", "connections-move"]) {
      test(`${runtime.name}, ${kind}: SIGTERM after ${after}: each connection is answered once more`, async (t) => {
        const { program, first } = await startServer(t, runtime, { kind });
        const connections = await Promise.all(
          Array.from({ length: 20 }, () => openConnection({ port: first.ports[0] })),
        );
        const ask = () =>
          Promise.all(connections.map((connection) => {
            connection.write("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
            return connection.answer();
          }));
        await ask();
        program.signal(first);
        await program.report(after);
        program.signal(first, "SIGTERM");
        await program.report("reload-end");
        for (const { status } of await ask()) assert.equal(status, 200);
        await until("all processes to be gone", () => program.pids().length === 0);
      });
    }
  }
}

for (const runtime of oneOfEachKind) {
  for (const kind of runtime.servers.filter((kind) => kind === "http" || kind === "adopted")) {
    for (const unix of [false, true]) {
      test(`${runtime.name}, ${kind}, ${unix ? "a unix socket" : "a port"}: what waits in the socket at SIGTERM is answered`, async (t) => {
        const { program, first, target } = await startServer(t, runtime, { kind }, { unix });
        program.signal(first, "SIGSTOP");
        const connections = await Promise.all(
          Array.from({ length: 300 }, () => openConnection(target)),
        );
        const answers = connections.map((connection) => {
          connection.write("GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
          return connection.answer();
        });
        program.signal(first, "SIGTERM");
        program.signal(first, "SIGCONT");
        for (const { status } of await Promise.all(answers)) assert.equal(status, 200);
        await until("all processes to be gone", () => program.pids().length === 0);
      });
    }
  }
}

for (const runtime of oneOfEachKind) {
  test(`${runtime.name}: a process that starts removes what killed ones have left behind`, async (t) => {
    const pidFile = join(temporaryFolder(t), "server.pid");
    const runtimeFolder = temporaryFolder(t);
    const start = () =>
      startServer(t, runtime, { kind: "http", options: { pidFile } }, {
        env: { XDG_RUNTIME_DIR: runtimeFolder },
      });
    const { program, first } = await start();
    program.signal(first, "SIGKILL");
    await until("it to be gone", () => program.pids().length === 0);
    for (const path of [join(runtimeFolder, "reload-self", `${first.pid}.json`), pidFile]) {
      assert.ok(existsSync(path), "it could not remove it");
      writeFileSync(`${path}.${first.pid}.new`, "half");
    }
    const next = (await start()).first;
    assert.deepEqual(readdirSync(join(runtimeFolder, "reload-self")), [`${next.pid}.json`]);
    assert.deepEqual(readdirSync(dirname(pidFile)), ["server.pid"]);
    assert.equal(readFileSync(pidFile, "utf8"), `${next.pid}\n`);
  });
}

// A signal may come while the part of the library that drains is still loaded.
for (const runtime of oneOfEachKind.filter(({ kind }) => kind !== "node")) {
  for (const when of ["before it listens", "at once", "while it is loaded"]) {
    test(`${runtime.name}: a native server that is cancelled ${when} is drained, and the process ends`, async (t) => {
      const program = startProgram(t, runtime, {
        script: fixture("early_cancel.ts"),
        env: { WHEN: when },
      });
      await program.line(/^drained$/);
      await until("the process to end by itself", () => program.process.exitCode === 0);
    });
  }
}
