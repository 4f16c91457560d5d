/** Unix sockets: who serves the path, and what becomes of the file. */
import assert from "node:assert/strict";
import {
  chmodSync,
  lstatSync,
  readdirSync,
  readlinkSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { openConnection } from "../../load/http1.ts";
import { startServer } from "../../load/rows.ts";
import { fixture, startProgram, temporaryFolder } from "../../support/program.ts";
import { isAlive } from "../../support/proc.ts";
import { runtimes } from "../../support/runtimes.ts";
import { until } from "../../support/wait.ts";

async function generationAt(path: string): Promise<number> {
  const connection = await openConnection({ path });
  connection.write("GET /1/10/1/0 HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
  const answer = await connection.answer();
  connection.close();
  return Number(answer.headers.get("x-generation"));
}

for (const runtime of runtimes) {
  // The socket of an adopted server passes on itself: native_servers.test.ts.
  for (const kind of runtime.servers.filter((kind) => kind !== "adopted")) {
    test(`${runtime.name}: ${kind}: the path changes hands at once, keeps its mode, and nothing is left beside it`, async (t) => {
      const { program, first, target } = await startServer(t, runtime, {
        kind,
        options: { probation: 100, idleGrace: 100 },
      }, {
        unix: true,
      });
      const path = target.path as string;
      chmodSync(path, 0o660);
      let current = first;
      for (let i = 1; i <= 3; i++) {
        program.signal(current);
        const next = await program.report("in-charge", { generation: i });
        assert.equal(await generationAt(path), i);
        await until("the old process to be gone", () => !isAlive(current.pid));
        assert.equal(
          await generationAt(path),
          i,
          "the old one has not removed what is not its own",
        );
        assert.equal(lstatSync(path).mode & 0o777, 0o660);
        assert.deepEqual(readdirSync(dirname(path)), ["server.sock"]);
        current = next;
      }
    });

    test(`${runtime.name}: ${kind}: a failed reload leaves the path as it was`, async (t) => {
      const { program, first, target } = await startServer(t, runtime, {
        kind,
        options: { probation: 100, idleGrace: 100 },
      }, {
        unix: true,
      });
      const path = target.path as string;
      program.behave("manual");
      program.signal(first);
      const { pid } = await program.report("waiting");
      assert.equal(await generationAt(path), 0);
      process.kill(pid, "SIGKILL");
      await program.report("reload-fail");
      assert.equal(await generationAt(path), 0);
      assert.deepEqual(readdirSync(dirname(path)), ["server.sock"]);

      // In the moment in which it has made its socket: it may not have told the old one of it.
      for (let i = 0; i < 5; i++) {
        const before = program.reports.length;
        program.signal(first);
        const made = await until(
          "its socket",
          () => readdirSync(dirname(path)).find((name) => /\.\d+$/.test(name)),
        );
        process.kill(Number(made.split(".").pop()), "SIGKILL");
        await program.report("reload-fail", {}, before);
        assert.deepEqual(readdirSync(dirname(path)), ["server.sock"]);
      }
    });

    test(`${runtime.name}: ${kind}: what a killed process has left is replaced, what another program serves is not`, async (t) => {
      const { program, first, target } = await startServer(t, runtime, {
        kind,
        options: { probation: 100, idleGrace: 100 },
      }, {
        unix: true,
      });
      const path = target.path as string;
      program.signal(first, "SIGKILL");
      await until("it to be gone", () => !isAlive(first.pid));
      assert.ok(lstatSync(path).isSocket());
      const again = await startServer(t, runtime, {
        kind,
        path,
        options: { probation: 100, idleGrace: 100 },
      });
      await until(
        "it to be served",
        () => generationAt(path).then((generation) => generation === 0, () => false),
      );

      const third = startProgram(t, runtime, {
        command: [
          runtime.executable,
          ...runtime.flags,
          fixture("server.ts"),
        ],
        env: { SERVER: JSON.stringify({ kind, path }) },
      });
      await third.line(/another program serves/);
      assert.equal(await generationAt(path), 0);
      assert.ok(isAlive(again.first.pid));
    });
  }

  test(`${runtime.name}: a link or a file at the path is not followed or overwritten`, async (t) => {
    const folder = temporaryFolder(t);
    const victim = join(folder, "victim");
    writeFileSync(victim, "precious");
    const path = join(folder, "server.sock");
    symlinkSync(victim, path);
    const program = startProgram(t, runtime, {
      command: [runtime.executable, ...runtime.flags, fixture("server.ts")],
      env: { SERVER: JSON.stringify({ kind: "http", path }) },
    });
    await program.line(/is not a socket/);
    assert.equal(readlinkSync(path), victim);
    unlinkSync(path);
  });

  test(`${runtime.name}: a path that is too long is told at once`, async (t) => {
    const path = join(temporaryFolder(t), "x".repeat(100));
    const program = startProgram(t, runtime, {
      command: [runtime.executable, ...runtime.flags, fixture("server.ts")],
      env: { SERVER: JSON.stringify({ kind: "http", path }) },
    });
    await program.line(/is too long/);
  });
}
