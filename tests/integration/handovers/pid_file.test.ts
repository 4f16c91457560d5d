import assert from "node:assert/strict";
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { parsePid } from "../../../src/protocol/pid_file.ts";
import type { TestScope } from "../../support/clean_up.ts";
import { isAlive } from "../../support/proc.ts";
import { type Program, startProgram, temporaryFolder } from "../../support/program.ts";
import { type Runtime, runtimes } from "../../support/runtimes.ts";
import { until } from "../../support/wait.ts";

function start(t: TestScope, runtime: Runtime, pidFile: string, behaviour?: string): Program {
  return startProgram(t, runtime, { behaviour, env: { OPTIONS: JSON.stringify({ pidFile }) } });
}

const inFile = (path: string) => Number(readFileSync(path, "utf8"));

for (const runtime of runtimes) {
  test(`${runtime.name}: the pid file names the process in charge, and is gone with it`, async (t) => {
    const path = join(temporaryFolder(t), "pid");
    const program = start(t, runtime, path);
    const first = await program.report("start");
    assert.equal(inFile(path), first.pid);
    assert.equal(lstatSync(path).mode & 0o777, 0o644);

    program.signal(first);
    const second = await program.report("in-charge", { generation: 1 });
    assert.equal(inFile(path), second.pid, "before the new process is in charge");
    await until("the old process to be gone", () => !isAlive(first.pid));
    assert.equal(inFile(path), second.pid, "the old one leaves it alone");

    program.behave("crash");
    program.signal(second);
    await program.report("reload-fail");
    assert.equal(inFile(path), second.pid);

    program.signal(second, "SIGTERM");
    await until("the process to be gone", () => !isAlive(second.pid));
    assert.equal(existsSync(path), false);
  });

  test(`${runtime.name}: a new process that is left alone writes the pid file`, async (t) => {
    const path = join(temporaryFolder(t), "pid");
    const program = start(t, runtime, path);
    const first = await program.report("start");
    program.behave("manual");
    program.signal(first);
    const second = await program.report("waiting");
    assert.equal(inFile(path), first.pid);
    program.signal(first, "SIGKILL");
    await program.report("in-charge", { generation: 1 });
    await until("the file to name it", () => inFile(path) === second.pid);
  });

  test(`${runtime.name}: a stale pid file is replaced, also when a link was put in its place; that of another process is not`, async (t) => {
    const folder = temporaryFolder(t);
    const path = join(folder, "pid");
    const victim = join(folder, "victim");
    writeFileSync(victim, "");
    symlinkSync(victim, path);
    const program = start(t, runtime, path);
    const { pid } = await program.report("start");
    assert.equal(lstatSync(path).isFile(), true);
    assert.equal(readFileSync(victim, "utf8"), "");

    const second = start(t, runtime, path);
    await second.line(
      new RegExp(
        `the pid file ${path} belongs to process ${pid}, which is running: stop that first`,
      ),
    );
    assert.equal(inFile(path), pid);
    assert.equal(isAlive(pid), true);

    program.signal(pid, "SIGKILL");
    await until("it to be gone", () => !isAlive(pid));
    assert.equal(inFile(path), pid, "stale");
    const third = start(t, runtime, path);
    const { pid: next } = await third.report("start");
    assert.equal(inFile(path), next);
  });

  test(`${runtime.name}: a pid file that cannot be: an error that says why`, async (t) => {
    const folder = temporaryFolder(t);
    const cases: [make: (path: string) => void, why: RegExp][] = [
      [(path) => writeFileSync(path, "PATH=/bin"), /contains no pid/],
      [(path) => mkdirSync(path), /cannot be read: /],
    ];
    for (const [make, why] of cases) {
      const path = join(folder, "pid");
      make(path);
      await start(t, runtime, path).line(why);
      rmSync(path, { recursive: true });
    }
    await start(t, runtime, join(folder, "missing", "pid")).line(
      /the pid file .* cannot be written: /,
    );
  });
}

test("a pid file names a process that has died, and whose number somebody else has got", async (t) => {
  const [runtime] = runtimes;
  const path = join(temporaryFolder(t), "pid");
  writeFileSync(path, `${process.pid}\n`);
  utimesSync(path, 1, 1);
  assert.equal(inFile(path), process.pid);
  const program = start(t, runtime as Runtime, path);
  const { pid } = await program.report("start");
  assert.equal(inFile(path), pid);
});

test("a pid file holds one pid and nothing else", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 2 ** 31 - 1 }),
      (pid) => assert.equal(parsePid(` ${pid}\n`), pid),
    ),
  );
  for (
    const text of [
      "",
      "0",
      "-1",
      "1 2",
      "1\n2",
      "0x10",
      "01",
      "1e3",
      "2147483648",
      "99999999999",
      "1.5",
      "½",
    ]
  ) {
    assert.equal(parsePid(text), undefined, text);
  }
});
