/**
 * What killed processes leave behind (files, zombies) does not trouble those that follow. Found by
 * `npm run bench -- day`.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { cleanUp, type TestScope } from "../support/clean_up.ts";
import { isAlive, stateOf } from "../support/proc.ts";
import { fixture, startProgram, temporaryFolder } from "../support/program.ts";
import { oneOfEachKind } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";

/** A process that has ended, and that its parent does not ask for. */
async function startZombie(t: TestScope): Promise<number> {
  const parent = spawn("/bin/sh", ["-c", "sleep 1000 & echo $!; kill -9 $!; exec sleep 1000"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  cleanUp(t, () => parent.kill("SIGKILL"));
  const [line] = await once(parent.stdout, "data");
  const pid = Number(line);
  await until("a zombie", () => stateOf(pid) === "Z");
  return pid;
}

for (const runtime of oneOfEachKind) {
  test(`${runtime.name}: the status file of a process that was killed when it had handed over`, async (t) => {
    const program = startProgram(t, runtime, {
      env: { OPTIONS: JSON.stringify({ probation: 60_000 }) },
    });
    const first = await program.report("start");
    program.signal(first);
    const second = await program.report("in-charge", { generation: 1 });
    program.signal(first, "SIGKILL");
    await until("it to be gone", () => !isAlive(first.pid));
    program.signal(second);
    await program.report("in-charge", { generation: 2 });
    const names = readdirSync(join(program.runtimeFolder, "reload-self"));
    assert.ok(!names.includes(`${first.pid}.json`), names.join(" "));
  });

  test(`${runtime.name}: a pid file that names a process that has ended, whose parent does not care`, async (t) => {
    const path = join(temporaryFolder(t), "pid");
    writeFileSync(path, String(await startZombie(t)));
    const program = startProgram(t, runtime, {
      env: { OPTIONS: JSON.stringify({ pidFile: path }) },
    });
    program.signal(await program.report("start"));
    await program.report("in-charge", { generation: 1 });
  });

  test(`${runtime.name}: the old process is killed while the new one starts, and its parent does not care`, async (t) => {
    const command = [runtime.executable, ...runtime.flags, fixture("program.ts")];
    const program = startProgram(t, runtime, {
      command: ["/bin/sh", "-c", '"$@" & exec sleep 1000', "sh", ...command],
    });
    const first = await program.report("start");
    program.signal(first);
    const { pid } = await program.report("successor-start");
    program.signal(first, "SIGKILL");
    await until("a zombie", () => stateOf(first.pid) === "Z");
    await program.report("in-charge", { pid, generation: 1, predecessor: "gone" });
  });
}
