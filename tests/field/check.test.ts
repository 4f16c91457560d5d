/**
 * A new version that starts well and answers with errors: its check fails, and the old one takes
 * charge again.
 */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { describeTally, startLoad, type Tally } from "../load/load.ts";
import type { ServerSetup } from "../fixtures/server.ts";
import { certificate } from "../fixtures/certificate.ts";
import { type Server, startServer } from "../load/rows.ts";
import { cleanUp, type TestScope } from "../support/clean_up.ts";
import { freePort } from "../support/port.ts";
import { cli } from "../support/cli.ts";
import { isAlive } from "../support/proc.ts";
import { startProgram, temporaryFolder } from "../support/program.ts";
import { oneOfEachKind } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";

/** What takes a tenth of a second to answer, whatever the answer is. */
const SLOW = "/1/10/1/100";

/** What clients have noticed besides answers with an error. */
function otherFailures({ failures }: Tally): string[] {
  return [...failures.keys()].filter((kind) => !kind.startsWith("status 500"));
}

/** Reloads into a version that answers 500, under load, and then into a good one. */
async function survives(
  t: TestScope,
  { program, first, target }: Server,
  check: string,
): Promise<void> {
  const loads = (["new", "keep"] as const).map((kind) => startLoad(kind, target, 4));
  cleanUp(t, () => Promise.all(loads.map((load) => load.stop())));
  await until("the clients to be answered", () => loads.every(({ tally }) => tally.ok > 20));
  program.behave("bad");
  program.signal(first);
  const { error, wasInCharge } = await program.report("reload-fail");
  assert.equal(error.code, "check");
  assert.equal(
    error.message,
    `the new process (pid ${error.pid}) did not pass its check: ${check} answered 500`,
  );
  assert.equal(wasInCharge, true);
  assert.ok(!isAlive(error.pid));
  const { reason } = await program.report("cancelled", { pid: error.pid });
  assert.deepEqual(reason, { kind: "reload", pid: first.pid, generation: 0 });
  await program.report("drained", { pid: error.pid });

  const bad = () =>
    loads.map(({ tally }) => [...tally.failures.values()].reduce((sum, count) => sum + count, 0));
  const [before, ok] = [bad(), loads.map(({ tally }) => tally.ok)];
  assert.ok((before[0] as number) > 0, "new connections came to the new version");
  await until(
    "the old version to answer",
    () => loads.every(({ tally }, i) => tally.ok > (ok[i] as number) + 50),
  );
  assert.deepEqual(bad(), before, "nothing came to the new version any more");
  assert.deepEqual(
    program.reports.filter(({ type, pid }) => type === "cancel" && pid === first.pid),
    [],
  );

  program.behave("run");
  const from = program.reports.length;
  program.signal(first);
  const next = await program.report("reload-end", {}, from);
  await until(
    "the next version to answer",
    () => loads.every(({ tally }) => tally.generations.has(next.generation)),
  );
  await until("the old process to be gone", () => !isAlive(first.pid));
  for (const load of loads) {
    const tally = await load.stop();
    assert.deepEqual(otherFailures(tally), [], describeTally(tally));
  }
}

for (const runtime of oneOfEachKind) {
  for (const kind of runtime.servers) {
    test(`${runtime.name}, ${kind}: a version that answers 500 is taken back, and no connection is lost`, async (t) => {
      const port = await freePort();
      const check = `http://127.0.0.1:${port}${SLOW}`;
      const server = await startServer(t, runtime, {
        kind,
        ports: [port],
        host: "127.0.0.1",
        options: { check, probation: 300, idleGrace: 300 },
      });
      await survives(t, server, check);
    });
  }

  test(`${runtime.name}: a check by TLS, of a certificate for another name`, async (t) => {
    const port = await freePort();
    const kind = runtime.kind === "node" ? "https" : "adopted";
    const check = `https://127.0.0.1:${port}${SLOW}`;
    const options = { check, probation: 300, idleGrace: 300 };
    await survives(
      t,
      await startServer(t, runtime, {
        kind,
        tls: certificate,
        ports: [port],
        host: "127.0.0.1",
        options,
      }),
      check,
    );
  });

  test(`${runtime.name}: run --check judges a program that does not know of it`, async (t) => {
    const kind: ServerSetup["kind"] = runtime.kind === "node" ? "http" : "adopted";
    const port = await freePort();
    const check = `http://127.0.0.1:${port}${SLOW}`;
    const setup = {
      kind,
      ports: [port],
      host: "127.0.0.1",
      options: { probation: 300, idleGrace: 300 },
    };
    const server = await startServer(t, runtime, setup, {
      wrap: [...cli(runtime), "run", "--check", check, "--"],
    });
    await survives(t, server, check);
  });

  test(`${runtime.name}: serve --check`, async (t) => {
    const port = await freePort();
    const module = join(temporaryFolder(t), "app.mjs");
    const write = (status: number) =>
      writeFileSync(
        module,
        `export default { fetch: () => new Response(null, { status: ${status} }) };`,
      );
    write(204);
    const check = `http://127.0.0.1:${port}/`;
    const args = [
      "serve",
      "--host",
      "127.0.0.1",
      "--port",
      String(port),
      "--check",
      check,
      "--check-timeout",
      "20",
      module,
    ];
    const program = startProgram(t, runtime, { command: [...cli(runtime), ...args] });
    const first = Number(/\(pid (\d+)\)/.exec(await program.line(/^Listening on/))?.[1]);
    write(503);
    program.signal(first);
    await program.line(
      new RegExp(
        `reload failed: .* did not pass its check: ${check} answered 503\\. Process ${first} is in charge again`,
      ),
    );
    assert.equal((await fetch(check, { headers: { connection: "close" } })).status, 204);
  });

  test(`${runtime.name}: a check that gets no answer, and unix sockets`, async (t) => {
    const port = await freePort();
    const kind = runtime.kind === "node" ? "http" : "adopted";
    // Nobody listens there: the version is judged by something else than its socket.
    const check = `http://127.0.0.1:${port}/`;
    const { program, first, target } = await startServer(t, runtime, {
      kind,
      options: { check, probation: 300, idleGrace: 300 },
    }, { unix: true });
    const load = startLoad("new", target, 4);
    cleanUp(t, () => load.stop());
    program.signal(first);
    const { error } = await program.report("reload-fail");
    assert.match(error.message, new RegExp(`did not pass its check: ${check} does not answer: `));
    const { ok } = load.tally;
    await until("the old version to answer", () => load.tally.ok > ok + 50);
    const tally = await load.stop();
    assert.equal(tally.failures.size, 0, describeTally(tally));
  });

  test(`${runtime.name}: what waits in the unix socket of a version that is taken back is answered`, async (t) => {
    const port = await freePort();
    const { program, first, target } = await startServer(t, runtime, {
      kind: "http",
      burn: 5,
      options: { check: `http://127.0.0.1:${port}/`, probation: 300, idleGrace: 300 },
    }, { unix: true });
    const load = startLoad("new", target, 50); // There are always some that wait.
    cleanUp(t, () => load.stop());
    program.signal(first);
    await program.report("reload-fail");
    const tally = await load.stop();
    assert.equal(tally.failures.size, 0, describeTally(tally));
    assert.ok(tally.generations.has(1), describeTally(tally));
  });
}
