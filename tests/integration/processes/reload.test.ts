/** The promises of a reload, with real processes. */
import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { childrenOf, isAlive, sessionOf, stateOf } from "../../support/proc.ts";
import { type Program, type Report, startProgram } from "../../support/program.ts";
import { type Runtime, runtimes } from "../../support/runtimes.ts";
import { until } from "../../support/wait.ts";

// The children of a process that has ended are reaped by process 1, which may take its time: here a
// zombie counts as gone.
const gone = (pid: number) => until(`${pid} to be gone`, () => !isAlive(pid));

/** The old process is as before: alive, in charge, without children, and the next reload works. */
async function unharmed(program: Program, old: Report): Promise<void> {
  assert.deepEqual(program.reports.filter(({ type }) => type === "cancel"), []);
  assert.deepEqual(childrenOf(old.pid), []);
  assert.deepEqual(program.pids(), [old.pid]);
  program.behave("run");
  program.signal(old);
  const next = await program.report("in-charge", { predecessor: "handed over" });
  assert.equal(next.generation, old.generation + 1);
  await gone(old.pid);
  assert.deepEqual(program.pids(), [next.pid]);
}

/** A reload that has got as far as this report of the new process, which behaves as told. */
async function halfWay(t: TestContext, runtime: Runtime, behaviour: string, type: string) {
  const program = startProgram(t, runtime);
  const old = await program.report("start");
  program.behave(behaviour);
  program.signal(old);
  const next = await program.report(type, { generation: 1 });
  return { program, old, next };
}

for (const runtime of runtimes) {
  test(`${runtime.name}: SIGHUP replaces the process, three times`, async (t) => {
    const program = startProgram(t, runtime);
    let old = await program.report("start");
    assert.equal(old.generation, 0);
    for (let generation = 1; generation <= 3; generation++) {
      program.signal(old);
      const next = await program.report("start", { generation });
      const { reason, same } = await program.report("cancelled", { pid: old.pid });
      assert.deepEqual(reason, { kind: "reload", pid: next.pid, generation });
      assert.equal(same, true, "the signal's reason is what cancelled() resolves to");
      const { drained } = await program.report("drained", { pid: old.pid });
      assert.deepEqual(drained, { complete: true, running: [], failed: [] });
      await program.report("exit", { pid: old.pid });
      await gone(old.pid);
      assert.equal(sessionOf(next.pid), next.pid, "the new process leads a session of its own");
      assert.equal(next.handshake, undefined, "the handshake is not left in the environment");
      assert.equal(
        next.changed,
        String(generation),
        "a variable that was changed at run time is kept",
      );
      assert.equal(next.send, "undefined", "the channel is hidden from the program");
      old = next;
    }
    program.signal(old, "SIGTERM");
    const { reason } = await program.report("cancelled", { pid: old.pid });
    assert.deepEqual(reason, { kind: "shutdown", signal: "SIGTERM" });
    await gone(old.pid);
    assert.deepEqual(program.lines, [], "nothing is written without a reason");
  });

  test(`${runtime.name}: a second SIGHUP during a reload leads to exactly one more, by the successor`, async (t) => {
    const program = startProgram(t, runtime, { behaviour: "manual" });
    const first = await program.report("waiting");
    program.signal(first);
    const second = await program.report("waiting", { generation: 1 });
    for (let i = 0; i < 3; i++) program.signal(first);
    await until(
      "the signals to be noticed",
      () => program.reports.some(({ type }) => type === "reload-later"),
    );
    program.behave("run");
    program.signal(second, "SIGUSR2");
    const third = await program.report("in-charge", { generation: 2 });
    await gone(first.pid);
    await gone(second.pid);
    assert.deepEqual(program.pids(), [third.pid]);
    // Ask once more, and see that nothing but this came in between.
    program.signal(third);
    const fourth = await program.report("in-charge", { generation: 3 });
    await gone(third.pid);
    assert.deepEqual(program.pids(), [fourth.pid]);
    const begun = program.reports.filter(({ type }) => type === "reload-begin").map((
      { pid, cause },
    ) => [pid, cause.by]);
    assert.deepEqual(begun, [[first.pid, "signal"], [second.pid, "predecessor"], [
      third.pid,
      "signal",
    ]]);
  });

  test(`${runtime.name}: a late SIGHUP is passed on, and a draining process blocks nothing`, async (t) => {
    const program = startProgram(t, runtime, { behaviour: "drain" });
    const first = await program.report("start");
    program.signal(first);
    const second = await program.report("in-charge", { generation: 1 });
    await program.report("cancelled", { pid: first.pid });
    program.signal(first);
    const third = await program.report("in-charge", { generation: 2 });
    assert.equal(
      (await program.report("reload-begin", { pid: second.pid })).cause.by,
      "predecessor",
    );
    assert.deepEqual(
      program.pids().sort((a, b) => a - b),
      [first.pid, second.pid, third.pid].sort((a, b) => a - b),
    );
    // Passed on over two generations.
    program.signal(first);
    const fourth = await program.report("in-charge", { generation: 3 });
    for (const { pid } of [first, second, third]) {
      program.signal(pid, "SIGUSR2");
      await gone(pid);
    }
    assert.deepEqual(program.pids(), [fourth.pid]);
  });

  test(`${runtime.name}: a late SIGHUP with nobody to pass it on to is told`, async (t) => {
    const program = startProgram(t, runtime, { behaviour: "drain" });
    const first = await program.report("start");
    program.signal(first);
    const second = await program.report("in-charge", { generation: 1 });
    await program.report("cancelled", { pid: first.pid });
    program.signal(second, "SIGKILL");
    await until("the successor to be reaped", () => stateOf(second.pid) === undefined);
    program.signal(first);
    await program.report("reload-ignore", { pid: first.pid });
    await program.line(new RegExp(`process ${first.pid}: .*pid ${second.pid}, which is gone`));
    assert.ok(isAlive(first.pid));
  });

  const failures: [behaviour: string, code: string, message: RegExp, details?: object][] = [
    ["exit 7", "exit", /exited with code 7/, { exitCode: 7, exitSignal: null }],
    ["crash", "exit", /exited with code 1/, { exitCode: 1, exitSignal: null }],
    ["throw", "exit", /exited with code 1/, { exitCode: 1, exitSignal: null }],
    ["garbage", "protocol", /not understood/],
    ["disconnect", "protocol", /closed its channel/],
    ["reject", "refused", /no database/],
  ];
  for (const [behaviour, code, message, details = {}] of failures) {
    test(`${runtime.name}: a successor with the behaviour "${behaviour}" is rolled back`, async (t) => {
      const program = startProgram(t, runtime);
      const old = await program.report("start");
      program.behave(behaviour);
      program.signal(old);
      const { error } = await program.report("reload-fail", { pid: old.pid });
      assert.equal(error.code, code);
      assert.match(error.message, message);
      for (const [key, value] of Object.entries(details)) assert.equal(error[key], value);
      assert.equal(stateOf(error.pid), undefined, "the new process is reaped");
      const line = await program.line(/reload failed/);
      assert.ok(line.includes(`process ${old.pid}`) && line.includes(`pid ${error.pid}`), line);
      await unharmed(program, old);
    });
  }

  test(`${runtime.name}: a successor that never gets ready, or is stopped, is killed`, async (t) => {
    const program = startProgram(t, runtime, { env: { OPTIONS: `{"readyTimeout":4000}` } });
    const old = await program.report("start");
    const seen = new Set<number>();
    for (const behaviour of ["never", "unready", "family"]) {
      program.behave(behaviour);
      program.signal(old);
      const { error } = await program.report("reload-fail", ({ error }) => !seen.has(error.pid));
      seen.add(error.pid);
      assert.equal(error.code, "timeout");
      assert.equal(stateOf(error.pid), undefined);
    }
    program.behave("unready");
    program.signal(old);
    const { pid } = await program.report(
      "start",
      ({ generation, pid }) => generation === 1 && !seen.has(pid),
    );
    program.signal(pid, "SIGSTOP");
    assert.equal(
      (await program.report("reload-fail", ({ error }) => error.pid === pid)).error.code,
      "timeout",
    );
    assert.equal(stateOf(pid), undefined);
    await unharmed(program, old);
  });

  test(`${runtime.name}: a successor that is killed half-way costs nothing`, async (t) => {
    const { program, old, next } = await halfWay(t, runtime, "unready", "start");
    program.signal(next, "SIGKILL");
    const { error } = await program.report("reload-fail");
    assert.deepEqual([error.code, error.exitSignal, error.exitCode], ["exit", "SIGKILL", null]);
    await unharmed(program, old);
  });

  test(`${runtime.name}: the successor carries on alone when the predecessor dies half-way`, async (t) => {
    const { program, old, next } = await halfWay(t, runtime, "manual", "waiting");
    program.signal(old, "SIGKILL");
    await program.report("in-charge", { pid: next.pid, predecessor: "gone" });
    program.signal(next, "SIGUSR2");
    program.behave("run");
    program.signal(next);
    await program.report("in-charge", { generation: 2, predecessor: "handed over" });
    await gone(next.pid);
  });

  test(`${runtime.name}: the successor carries on alone when the predecessor dies without having read a word`, async (t) => {
    const program = startProgram(t, runtime);
    const old = await program.report("start");
    program.behave("manual");
    program.signal(old);
    await program.report("successor-start");
    program.signal(old, "SIGSTOP");
    const { pid } = await program.report("waiting", { generation: 1 });
    program.signal(old, "SIGKILL");
    await program.report("in-charge", { pid, predecessor: "gone" });
  });

  test(`${runtime.name}: a successor that is alone and cannot become ready ends as the runtime ends it`, async (t) => {
    const { program, old, next } = await halfWay(t, runtime, "orphan", "waiting");
    program.signal(old, "SIGKILL");
    await program.report("in-charge", { pid: next.pid, predecessor: "gone" });
    program.signal(next, "SIGUSR2");
    await gone(next.pid);
    await program.line(/no database/);
  });

  test(`${runtime.name}: a shutdown during a reload leaves nobody behind`, async (t) => {
    const { program, old, next } = await halfWay(t, runtime, "unready", "start");
    program.signal(old, "SIGTERM");
    assert.equal((await program.report("reload-fail")).error.code, "cancelled");
    assert.deepEqual((await program.report("cancelled")).reason, {
      kind: "shutdown",
      signal: "SIGTERM",
    });
    await gone(old.pid);
    await gone(next.pid);
    assert.deepEqual(program.pids(), []);
  });

  test(`${runtime.name}: a second SIGTERM ends the process at once with 128 + 15`, async (t) => {
    const program = startProgram(t, runtime, { behaviour: "drain" });
    const { pid } = await program.report("start");
    program.signal(pid, "SIGTERM");
    await program.report("cancelled");
    // Within half a second it is the same one.
    await until("it to end", () => {
      if (isAlive(pid)) program.signal(pid, "SIGTERM");
      return program.process.exitCode !== null;
    });
    assert.equal(program.process.exitCode, 143);
  });

  test(`${runtime.name}: token.reload() does what the signal does, and tells what came of it`, async (t) => {
    const program = startProgram(t, runtime, { behaviour: "reload" });
    const old = await program.report("start");
    program.behave("run");
    const { to } = await program.report("reloaded", { pid: old.pid });
    assert.equal(to, (await program.report("in-charge", { generation: 1 })).pid);
  });
}
