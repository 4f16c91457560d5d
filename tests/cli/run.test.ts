import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { test } from "node:test";
import { openConnection } from "../load/http1.ts";
import { describeTally, failureCount, startLoad } from "../load/load.ts";
import { cleanUp, type TestScope } from "../support/clean_up.ts";
import { freePort } from "../support/port.ts";
import { cli, runCli } from "../support/cli.ts";
import { allPids, commandLineOf, isAlive, parentOf, stateOf } from "../support/proc.ts";
import {
  fixture,
  type Program,
  type Report,
  type StartOptions,
  startProgram,
} from "../support/program.ts";
import { oneOfEachKind, type Runtime } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";

/** Starts a program under `reload-self run`, each on a runtime of its own. */
function start(
  t: TestScope,
  parent: Runtime,
  program: Runtime,
  { script = "program.ts", args = [], wrap = [], ...options }: StartOptions & { wrap?: string[] } =
    {},
): Program {
  const command = [
    ...wrap,
    ...cli(parent),
    "run",
    ...args,
    "--",
    program.executable,
    ...program.flags,
    fixture(script),
  ];
  return startProgram(t, program, { ...options, command });
}

function exitCode({ process: child }: Program): Promise<number | null> {
  return until(
    "the parent to end",
    () => child.exitCode !== null || child.signalCode !== null ? [child.exitCode] : undefined,
  )
    .then(([code]) => code as number | null);
}

/** The folders of parents: removed at the end. */
function folders({ runtimeFolder }: Program): string[] {
  return readdirSync(runtimeFolder).filter((name) => name.startsWith("reload-self-run-"));
}

for (const parent of oneOfEachKind) {
  for (const runtime of oneOfEachKind) {
    test(`run, ${parent.name} for ${runtime.name}: the pid stays, and reloads under load lose nothing`, async (t) => {
      const kind = runtime.kind === "node" ? "http" : "native";
      const program = start(t, parent, runtime, {
        script: "server.ts",
        env: { SERVER: JSON.stringify({ kind, options: { probation: 300, idleGrace: 300 } }) },
      });
      const first = await program.report("serving");
      const { pid } = program.process as { pid: number };
      const load = startLoad("new", { port: first.ports[0] }, 4);
      cleanUp(t, () => load.stop());
      program.signal(pid);
      const second = await program.report("in-charge", { generation: 1 });
      await until("generation 1 to answer", () => load.tally.generations.has(1));
      await until("the old process to be gone", () => !isAlive(first.pid));
      const { code, stdout, stderr } = await runCli(parent, ["reload", String(pid)], {
        XDG_RUNTIME_DIR: program.runtimeFolder,
      });
      assert.equal(code, 0, stderr);
      assert.match(stdout, new RegExp(`pid ${second.pid} → \\d+ \\(generation 2\\)`));
      const third = await program.report("in-charge", { generation: 2 });
      await until("generation 2 to answer", () => load.tally.generations.has(2));
      const tally = await load.stop();
      assert.equal(failureCount(tally), 0, describeTally(tally));
      assert.equal(isAlive(pid), true);

      program.signal(pid, "SIGTERM");
      await program.report("drained", { generation: 2 });
      assert.equal(await exitCode(program), 0);
      assert.equal(isAlive(third.pid), false);
      assert.deepEqual(folders(program), [], "nothing is left behind");
    });
  }
}

for (const parent of oneOfEachKind) {
  const [runtime] = oneOfEachKind as [Runtime];

  test(`run, ${parent.name}: a reload that is asked for before the program has called listen() comes when it has`, async (t) => {
    const program = start(t, parent, runtime, { behaviour: "late" });
    await program.report("late");
    program.signal(program.process.pid as number);
    await program.line(/asked to reload, but the program has not called listen\(\)/);
    program.behave("run");
    await program.report("in-charge", { generation: 1 });
  });

  test(`run, ${parent.name}: below npx it names the process to signal`, async (t) => {
    const command = [...cli(parent), "run", "--", runtime.executable, ...runtime.flags];
    const line = [...command, fixture("program.ts")].map((part) => `'${part}'`).join(" ");
    const program = startProgram(t, runtime, { command: ["npm", "exec", "--call", line] });
    await program.report("start");
    const told = await program.line(/`kill -HUP \d+` reloads/);
    program.signal(Number(/-HUP (\d+)/.exec(told)?.[1]));
    await program.report("reload-end", { generation: 1 });
  });

  test(`run, ${parent.name}: a crash is followed by a new start, also in a later generation`, async (t) => {
    const program = start(t, parent, runtime);
    const first = await program.report("start");
    program.signal(program.process.pid as number);
    const second = await program.report("in-charge", { generation: 1 });
    await until("the old process to be gone", () => !isAlive(first.pid));
    program.signal(second, "SIGKILL");
    await program.line(/the program was ended by SIGKILL: it is started again in 100 ms/);
    const third = await program.report(
      "start",
      ({ pid, generation }) => generation === 0 && pid !== first.pid,
    );
    program.signal(third, "SIGTERM");
    assert.equal(
      await exitCode(program),
      0,
      "a program that ends as it should is not started again",
    );
  });

  test(`run, ${parent.name}: a crash loop ends with the program's exit code`, async (t) => {
    const program = start(t, parent, runtime, {
      behaviour: "exit 7",
      args: ["--max-crashes", "3"],
    });
    assert.equal(await exitCode(program), 7);
    await program.line(
      /the program exited with code 7. It has crashed as often in a row as --max-crashes allows, 3: giving up/,
    );
    const waits = program.lines.map((line) => /started again in (\d+) ms/.exec(line)?.[1]).filter((
      wait,
    ) => wait !== undefined);
    assert.deepEqual(waits, ["100", "200"], "each wait is longer than the one before");
    assert.deepEqual(folders(program), []);
  });

  test(`run, ${parent.name}: the old process dies while the new one starts: the new one carries on`, async (t) => {
    const program = start(t, parent, runtime);
    const first = await program.report("start");
    program.behave("manual");
    program.signal(program.process.pid as number);
    const second = await program.report("waiting");
    program.signal(first, "SIGKILL");
    await program.report("in-charge", { generation: 1, predecessor: "gone" });
    program.behave("run");
    program.signal(program.process.pid as number);
    await program.report("in-charge", { generation: 2 });
    assert.deepEqual(program.lines.filter((line) => line.includes("started again")), []);
    assert.ok(second.pid !== first.pid);
  });

  test(`run, ${parent.name}: what does not end in time is killed`, async (t) => {
    const program = start(t, parent, runtime, {
      behaviour: "drain",
      args: ["--stop-timeout", "0.3"],
    });
    const first = await program.report("start");
    program.signal(program.process.pid as number, "SIGTERM");
    await program.report("cancelled");
    assert.equal(await exitCode(program), 137);
    await program.line(/has not ended within 0\.3 s: it is killed/);
    await until("it to be gone", () => !isAlive(first.pid)); // It was killed a moment before.
  });

  test(`run, ${parent.name}: a new version that fails leaves the old one, and the parent does not mind`, async (t) => {
    const program = start(t, parent, runtime);
    const first = await program.report("start");
    program.behave("exit 3");
    program.signal(program.process.pid as number);
    const { error } = await program.report("reload-fail");
    assert.equal(error.exitCode, 3);
    program.behave("run");
    program.signal(program.process.pid as number);
    await program.report("in-charge", { generation: 1 });
    assert.deepEqual(program.lines.filter((line) => line.includes("started again")), []);
    assert.ok(first.pid > 0);
  });

  test(`run, ${parent.name}: as process 1 of a container it reaps what has lost its parent`, async (t) => {
    if (process.platform !== "linux" || process.getuid?.() !== 0) {
      return t.skip("it takes root on Linux to make a pid namespace");
    }
    const program = start(t, parent, runtime, {
      wrap: ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"],
    });
    let current = await program.report("start");
    const [init] = childrenOfMark(program);
    assert.deepEqual(
      commandLineOf(init).slice(0, 2),
      ["sh", "-c"],
      "a shell took the place of process 1",
    );
    for (let i = 1; i <= 3; i++) {
      process.kill(init, "SIGHUP");
      const next = await program.report("in-charge", { generation: i });
      assert.notEqual(next.pid, current.pid);
      current = next;
    }
    await until(
      "what has ended to be reaped",
      () => program.pids().every((pid) => stateOf(pid) !== "Z"),
    );
    const result = await inside(init, cli(parent), ["reload", "1"]);
    assert.match(result, /reloaded: pid \d+ → \d+ \(generation 4\)/);
    process.kill(init, "SIGTERM");
    assert.equal(await exitCode(program), 0);
  });
}

const deno = oneOfEachKind.find(({ kind }) => kind === "deno");
if (deno !== undefined) {
  test("run, for a Deno without the permissions that it takes: nothing is lost, and the error names them", async (t) => {
    for (
      const [more, what] of [["--allow-sys", /--allow-write=/], [
        "--allow-write",
        /--allow-run=\/bin\/sh/,
      ]] as const
    ) {
      const flags = [
        "run",
        "--quiet",
        "--allow-env",
        "--allow-read",
        `--allow-run=${deno.executable}`,
        more,
      ];
      const program = start(t, deno, { ...deno, flags });
      const first = await program.report("start");
      program.signal(more === "--allow-write" ? program.process.pid as number : first.pid);
      const { error } = await program.report("reload-fail");
      assert.match(error.message, what);
      assert.equal(isAlive(first.pid), true);
      assert.equal(program.process.exitCode, null);
    }
  });
}

/** Starts three instances of a server at one port, and waits until all serve. */
async function startThree(
  t: TestScope,
  parent: Runtime,
  runtime: Runtime,
  kind: string,
): Promise<{ program: Program; port: number; first: readonly number[] }> {
  const port = await freePort();
  const options = { probation: 300, idleGrace: 300 };
  const program = start(t, parent, runtime, {
    script: "server.ts",
    args: ["--instances", "3"],
    env: { SERVER: JSON.stringify({ kind, ports: [port], host: "127.0.0.1", options }) },
  });
  const first = await until("three instances", () => {
    const pids = program.reports.filter(({ type }) => type === "serving").map(({ pid }) => pid);
    return pids.length === 3 ? pids : undefined;
  });
  return { program, port, first };
}

const sharing = oneOfEachKind.flatMap((runtime) =>
  runtime.servers.map((kind) => ({ runtime, kind }))
);
for (const { runtime, kind } of sharing) {
  const [parent] = oneOfEachKind as [Runtime];

  test(`run, ${parent.name}: three instances of ${runtime.name}, ${kind}, share the port, and are replaced all, or none`, async (t) => {
    const { program, port } = await startThree(t, parent, runtime, kind);
    const inGeneration = (generation: number) =>
      new Set(
        program.reports.filter((report) =>
          report.type === "serving" && report.generation === generation
        ).map(({ pid }) => pid),
      );
    const inCharge = (generation: number) =>
      program.reports.filter((report) =>
        report.type === "in-charge" && report.generation === generation
      ).length;
    assert.equal(inGeneration(0).size, 3);
    const { pid } = program.process as { pid: number };
    const load = startLoad("new", { port }, 4);
    cleanUp(t, () => load.stop());
    for (let i = 1; i <= 2; i++) {
      program.signal(pid);
      await until("all to be replaced", () => inCharge(i) === 3);
      await until(`generation ${i} to answer`, () => load.tally.generations.has(i));
      await until(
        "the old ones to be gone",
        () => [...inGeneration(i - 1)].every((pid) => !isAlive(pid)),
      );
    }

    // A new process that fails in one of them only: who is the first to take the file.
    program.behave("crash-once");
    const before = program.reports.length;
    program.signal(pid);
    await until(
      "all to have failed",
      () => program.reports.slice(before).filter(({ type }) => type === "reload-fail").length === 3,
    );
    const errors = program.reports.slice(before).filter(({ type }) => type === "reload-fail").map((
      { error },
    ) => error.message);
    assert.equal(
      errors.filter((message) =>
        /the new process of another instance failed: .* exited with code 1/.test(message)
      ).length,
      2,
      errors.join("\n"),
    );
    assert.equal(inCharge(3), 0);

    // Also when only one was asked.
    const [one] = inGeneration(2);
    program.signal(one as number);
    await until("all to be replaced", () => inCharge(3) === 3);
    const tally = await load.stop();
    assert.equal(failureCount(tally), 0, describeTally(tally));
    program.signal(pid, "SIGTERM");
    assert.equal(await exitCode(program), 0);
  });
}

for (const runtime of oneOfEachKind) {
  const kind = runtime.kind === "node" ? "http" : "adopted";

  test(`run, ${runtime.name}: of three instances none is replaced when one does not pass its check`, async (t) => {
    const { program, port, first } = await startThree(t, runtime, runtime, kind);
    const load = startLoad("keep", { port }, 4);
    cleanUp(t, () => load.stop());
    await until("answers", () => load.tally.ok > 0);

    program.behave("refuse-once");
    program.signal(program.process.pid as number);
    const failures = () => program.reports.filter(({ type }) => type === "reload-fail");
    await until("all to have failed", () => failures().length === 3);
    const messages = failures().map(({ error }) => error.message as string);
    const others = /the new process of another instance failed: .* did not pass its check/;
    assert.equal(messages.filter((message) => others.test(message)).length, 2, messages.join("\n"));
    assert.ok(first.every(isAlive), "all old processes serve");
    await until(
      "the new ones to be gone",
      () => failures().every(({ error }) => !isAlive(error.pid)),
    );
    const tally = await load.stop();
    assert.equal(failureCount(tally), 0, describeTally(tally));
  });
}

test("run: connections that move are said to move to the program, not to its guard", async (t) => {
  const [runtime] = oneOfEachKind as [Runtime];
  const port = await freePort();
  const options = { probation: 300 };
  const program = start(t, runtime, runtime, {
    script: "server.ts",
    env: { SERVER: JSON.stringify({ kind: "http", ports: [port], options }) },
  });
  const first = await program.report("serving");
  const connection = await openConnection({ port });
  cleanUp(t, () => connection.close());
  connection.write("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
  await connection.answer();
  program.signal(first);
  const next = await program.report("in-charge", { generation: 1 });
  const { pid, moved } = await program.report("connections-move", ({ pid }) => pid !== first.pid);
  assert.deepEqual([pid, moved], [next.pid, 1]);
});

test("run: when the guard of a program is killed, the program does not outlive it", async (t) => {
  const [runtime] = oneOfEachKind as [Runtime];
  const port = await freePort();
  const program = start(t, runtime, runtime, {
    script: "server.ts",
    env: { SERVER: JSON.stringify({ kind: "http", ports: [port], options: { probation: 300 } }) },
  });
  const first = await program.report("serving");
  process.kill(parentOf(first.pid) as number, "SIGKILL");
  await until("the program to be gone", () => !isAlive(first.pid));
  const again = await program.report("serving", ({ pid }) => pid !== first.pid);
  // And that of a new process, in a reload.
  program.behave("loop");
  program.signal(again);
  const { pid: guard } = await program.report("successor-start");
  const next = await until(
    "the new process",
    () => allPids().find((pid) => parentOf(pid) === guard),
  );
  process.kill(guard, "SIGKILL");
  await program.report("reload-fail");
  await until("the new process to be gone", () => !isAlive(next));
  assert.ok(isAlive(again.pid));
  program.signal(program.process.pid as number, "SIGTERM");
  assert.equal(await exitCode(program), 0);
});

test("run: signals that come while three instances are replaced are served by one more reload", async (t) => {
  const [runtime] = oneOfEachKind as [Runtime];
  const { program } = await startThree(t, runtime, runtime, "http");
  const inCharge = (generation: number) =>
    program.reports.filter((report) =>
      report.type === "in-charge" && report.generation === generation
    );
  const { pid } = program.process as { pid: number };
  program.signal(pid);
  await until("the first to be in charge", () => inCharge(1).length > 0);
  program.signal(pid);
  await until("all to be replaced twice", () => inCharge(2).length === 3);
  program.signal(inCharge(2)[0] as Report);
  await until("all to be replaced again", () => inCharge(3).length === 3);
  assert.deepEqual(program.reports.filter(({ type }) => type === "reload-fail"), []);
  program.signal(pid, "SIGTERM");
  assert.equal(await exitCode(program), 0);
});

for (const runtime of oneOfEachKind) {
  test(`run, ${runtime.name}: an instance that has ended with code 0 is not missed in a reload of the others`, async (t) => {
    const kind = runtime.kind === "node" ? "http" : "adopted";
    const { program, first } = await startThree(t, runtime, runtime, kind);
    const { pid } = program.process as { pid: number };
    program.signal(first[0] as number, "SIGTERM");
    await program.line(/an instance of the program has ended with code 0: it is not started again/);
    program.signal(pid);
    const ends = () => program.reports.filter(({ type }) => type === "reload-end");
    await until("both to be replaced", () => ends().length === 2);
    // Nor is a socket of `run` taken for one of the program.
    const bad = program.reports.filter(({ type }) => ["reload-fail", "warning"].includes(type));
    assert.deepEqual(bad, []);
    program.signal(pid, "SIGTERM");
    assert.equal(await exitCode(program), 0);
  });
}

test("listen() as process 1 says once what comes of it", async (t) => {
  if (process.platform !== "linux" || process.getuid?.() !== 0) {
    return t.skip("it takes root on Linux to make a pid namespace");
  }
  const [runtime] = oneOfEachKind as [Runtime];
  const program = startProgram(t, runtime, {
    command: [
      ...["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", runtime.executable],
      ...runtime.flags,
      fixture("program.ts"),
    ],
  });
  const { message } = await program.report("warning");
  assert.match(message, /this is process 1.*reload-self run/);
  const { pid } = await program.report("start") as Report;
  assert.equal(pid, 1);
});

/** Process 1 of the program's namespace: the child of unshare. */
function childrenOfMark(program: Program): [number] {
  const outer = program.process.pid as number;
  return [allPids().find((pid) => parentOf(pid) === outer) as number];
}

/** Runs a command in the namespaces of a process, and returns what it wrote. */
async function inside(
  pid: number,
  [file = "", ...args]: string[],
  more: string[],
): Promise<string> {
  const { execFile } = await import("node:child_process");
  const { readFileSync } = await import("node:fs");
  const environment = Object.fromEntries(
    readFileSync(`/proc/${pid}/environ`, "utf8").split("\0").slice(0, -1).map((entry) => [
      entry.split("=", 1)[0],
      entry.slice(entry.indexOf("=") + 1),
    ]),
  );
  return await new Promise((resolve) => {
    execFile(
      "nsenter",
      ["-t", String(pid), "-p", "-m", file, ...args, ...more],
      { env: environment },
      (_, stdout, stderr) => resolve(stdout + stderr),
    );
  });
}
