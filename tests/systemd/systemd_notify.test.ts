/**
 * What systemd is told, with a program in the place of systemd-notify that writes it down.
 * systemd.test.ts has a real systemd.
 */
import assert from "node:assert/strict";
import { chmodSync, readFileSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { test } from "node:test";
import type { TestScope } from "../support/clean_up.ts";
import { isAlive, parentOf } from "../support/proc.ts";
import { type Program, startProgram, temporaryFolder } from "../support/program.ts";
import { type Runtime, runtimes } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";

interface Notified {
  program: Program;
  /** What was sent so far: the variables of each message, in their order. */
  messages(): string[];
}

function start(
  t: TestScope,
  runtime: Runtime,
  options: { flags?: readonly string[]; env?: Record<string, string>; kills?: number } = {},
): Notified {
  const folder = temporaryFolder(t);
  const log = join(folder, "log");
  writeFileSync(log, "");
  const kill = `case "$*" in STOPPING*) [ $(grep -c ^STOPPING ${log}) -gt ${
    options.kills ?? 0
  } ] || kill $$;; esac`;
  writeFileSync(join(folder, "systemd-notify"), `#!/bin/sh\necho "$*" >> ${log}\n${kill}\n`);
  chmodSync(join(folder, "systemd-notify"), 0o755);
  const program = startProgram(t, runtime, {
    flags: options.flags,
    env: {
      NOTIFY_SOCKET: "/nowhere",
      PATH: `${folder}${delimiter}${process.env.PATH}`,
      ...options.env,
    },
  });
  return { program, messages: () => readFileSync(log, "utf8").split("\n").slice(0, -1) };
}

for (const runtime of runtimes) {
  test(`${runtime.name}: systemd is told of readiness, reloads, failures and the end`, async (t) => {
    const { program, messages } = start(t, runtime);
    const first = await program.report("start");
    const serving = (pid: number) => `READY=1 STATUS=Serving as process ${pid}`;
    await until("READY=1", () => messages().length === 1);
    assert.deepEqual(messages(), [serving(first.pid)]);

    const uptime = Number(readFileSync("/proc/uptime", "utf8").split(" ")[0]) * 1e6;
    program.signal(first);
    const second = await program.report("in-charge", { generation: 1 });
    await until("the old process to be gone", () => !isAlive(first.pid));
    const [, reloading = "", ...committed] = messages();
    const [, usec, status] = /^RELOADING=1 MONOTONIC_USEC=(\d+) (STATUS=.*)$/.exec(reloading) ?? [];
    assert.ok(Number(usec) >= uptime && Number(usec) < uptime + 60e6, usec);
    assert.equal(status, "STATUS=Reloading: starting generation 1");
    assert.deepEqual(committed, [`MAINPID=${second.pid} ${serving(second.pid)}`]);
    assert.notEqual(
      parentOf(second.pid),
      first.pid,
      "it is no child of a process that is about to leave",
    );

    program.behave("exit 3");
    program.signal(second);
    const { error } = await program.report("reload-fail");
    assert.equal(
      error.exitCode,
      3,
      "what a new process fails with is known all the same",
    );
    assert.equal(messages().length, 5);
    assert.match(
      messages()[4] as string,
      /^MAINPID=(\d+) READY=1 STATUS=Serving as process \1; the last reload failed: the new process \(pid \d+\) exited with code 3/,
    );

    program.signal(second, "SIGTERM");
    await until("the process to be gone", () => !isAlive(second.pid));
    assert.deepEqual(messages().slice(5), ["STOPPING=1 STATUS=Shutting down (SIGTERM)"]);
    assert.deepEqual(program.reports.filter(({ type }) => type === "warning"), []);
  });

  for (const kills of [1, 2]) {
    test(`${runtime.name}: systemd that ends the program that is about to tell it of the end, ${kills === 1 ? "once" : "twice"}`, async (t) => {
      const { program, messages } = start(t, runtime, { kills });
      const first = await program.report("start");
      await until("READY=1", () => messages().length === 1);
      program.signal(first, "SIGTERM");
      await program.report("drained");
      assert.deepEqual(
        messages().slice(1),
        Array(2).fill("STOPPING=1 STATUS=Shutting down (SIGTERM)"),
      );
      assert.deepEqual(program.reports.filter(({ type }) => type === "warning"), []);
      await until("the process to be gone", () => !isAlive(first.pid));
    });
  }

  test(`${runtime.name}: the watchdog is fed in every generation, at half of its time`, async (t) => {
    const { program, messages } = start(t, runtime, { env: { WATCHDOG_USEC: "100000" } });
    const fed = () => messages().filter((message) => message === "WATCHDOG=1").length;
    const first = await program.report("start");
    await until("the watchdog to be fed", () => fed() >= 3);
    program.signal(first);
    await program.report("in-charge", { generation: 1 });
    await until("the old process to be gone", () => !isAlive(first.pid));
    const before = fed();
    await until("the watchdog to be fed again", () => fed() >= before + 3);
  });

  test(`${runtime.name}: the watchdog of another process is not fed`, async (t) => {
    const { program, messages } = start(t, runtime, {
      env: { WATCHDOG_USEC: "20000", WATCHDOG_PID: "1" },
    });
    const first = await program.report("start");
    program.signal(first);
    const second = await program.report("in-charge", { generation: 1 });
    program.signal(second);
    await program.report("in-charge", { generation: 2 });
    assert.deepEqual(messages().filter((message) => message === "WATCHDOG=1"), []);
  });

  test(`${runtime.name}: without systemd-notify it reloads, and says so once`, async (t) => {
    const program = startProgram(t, runtime, { env: { NOTIFY_SOCKET: "/nowhere" } });
    const first = await program.report("start");
    program.signal(first);
    await program.report("cancel", { pid: first.pid });
    const warnings = program.reports.filter(({ type, pid }) =>
      type === "warning" && pid === first.pid
    );
    assert.equal(warnings.length, 1);
    assert.match(warnings[0]?.message, /systemd cannot be notified \((READY|RELOADING)=1/);
  });
}

const deno = runtimes.find(({ kind }) => kind === "deno");
if (deno !== undefined) {
  test("deno: without the permissions for it, systemd is not told, and the log says which flags fix it", async (t) => {
    const flags = [
      "run",
      "--quiet",
      "--allow-env",
      "--allow-read",
      `--allow-run=${deno.executable}`,
    ];
    const { program, messages } = start(t, deno, { flags });
    const first = await program.report("start");
    program.signal(first);
    await program.report("cancel", { pid: first.pid });
    const warnings = program.reports.filter(({ type, pid }) =>
      type === "warning" && pid === first.pid
    ).map(({ message }) => message);
    assert.deepEqual(warnings.length, 2);
    assert.match(warnings[0], /--allow-run=systemd-notify/);
    assert.match(warnings[1], /--allow-run=\/bin\/sh/);
    assert.deepEqual(messages(), []);
  });
}
