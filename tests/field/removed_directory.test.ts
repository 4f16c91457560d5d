/** A deploy removes the release that a program was started in. */
import assert from "node:assert/strict";
import {
  chmodSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { delimiter, join } from "node:path";
import { test } from "node:test";
import { pathWith } from "../support/package.ts";
import { startProgram, temporaryFolder } from "../support/program.ts";
import { runtimes } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";

const restricted = [
  "run",
  "--quiet",
  "--allow-env",
  "--allow-read",
  "--allow-run=deno,systemd-notify,/bin/sh",
];
const cases = runtimes.flatMap((runtime) =>
  runtime.kind === "deno"
    ? [{ runtime, what: "deno" }, { runtime, what: "deno, restricted", flags: restricted }]
    : [{ runtime, what: runtime.name }]
);

for (const { runtime, what, flags } of cases) {
  test(`${what}: the working directory is removed, and the watchdog is fed all the same`, async (t) => {
    const folder = temporaryFolder(t);
    const log = join(folder, "log");
    const cwd = join(folder, "release");
    mkdirSync(cwd);
    writeFileSync(log, "");
    writeFileSync(join(folder, "systemd-notify"), `#!/bin/sh\necho "$*" >> ${log}\n`);
    chmodSync(join(folder, "systemd-notify"), 0o755);
    const program = startProgram(t, runtime, {
      flags,
      cwd,
      env: {
        NOTIFY_SOCKET: "/nowhere",
        WATCHDOG_USEC: "100000",
        PATH: `${folder}${delimiter}${process.env.PATH}`,
      },
    });
    const fed = () =>
      readFileSync(log, "utf8").split("\n").filter((line) => line === "WATCHDOG=1").length;
    const first = await program.report("start");
    await until("the watchdog to be fed", () => fed() >= 2);
    rmdirSync(cwd);
    const before = fed();
    await until("the watchdog to be fed again", () => fed() >= before + 3);
    program.signal(first, "SIGTERM");
    await until(
      "systemd to be told of the end",
      () => readFileSync(log, "utf8").includes("STOPPING=1"),
    );
    assert.deepEqual(program.reports.filter(({ type }) => type === "warning"), []);
  });

  test(`${what}: the release is removed after the link to it was turned, and then comes the reload`, async (t) => {
    const folder = temporaryFolder(t);
    const link = join(folder, "current");
    const release = (number: number) => join(folder, `release-${number}`);
    const deploy = (number: number) => {
      mkdirSync(release(number));
      symlinkSync(release(number), `${link}.new`);
      renameSync(`${link}.new`, link);
    };
    deploy(1);
    const env = { PWD: link, PATH: pathWith(folder, { deno: runtime.executable }) };
    const program = startProgram(t, runtime, { flags, cwd: link, env });
    let current = await program.report("start");
    assert.equal(current.cwd, release(1));
    for (const number of [2, 3]) {
      deploy(number);
      rmdirSync(release(number - 1));
      program.signal(current);
      current = await program.report("start", { generation: number - 1 });
      assert.equal(current.cwd, release(number));
      await program.report("reload-end", { generation: number - 1 });
    }
  });

  test(`${what}: the working directory is removed: a reload fails and names it, until there is one again`, async (t) => {
    const folder = temporaryFolder(t);
    const cwd = join(folder, "release");
    mkdirSync(cwd);
    const program = startProgram(t, runtime, {
      flags,
      cwd,
      env: { PATH: pathWith(folder, { deno: runtime.executable }) },
    });
    const first = await program.report("start");
    rmdirSync(cwd);
    program.signal(first);
    const { error } = await program.report("reload-fail");
    assert.match(
      error.message,
      new RegExp(`in ${cwd} cannot be started: there is no such executable, or no such directory`),
    );
    mkdirSync(cwd);
    program.signal(first);
    await program.report("reload-end");
  });
}
