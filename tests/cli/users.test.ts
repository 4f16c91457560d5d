/** `reload-self` run by root, for the program of a user who plants what that user can. */
import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { cleanUp, type TestScope } from "../support/clean_up.ts";
import { runCli } from "../support/cli.ts";
import { isAlive } from "../support/proc.ts";
import { fixture } from "../support/program.ts";
import { oneOfEachKind } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";

/** Two users of every Debian system: daemon and nobody. */
const VICTIM = 1;
const ATTACKER = 65_534;

/** A folder that a user may do anything in. */
function folderOf(t: TestScope, uid: number): string {
  const folder = mkdtempSync(join(tmpdir(), "reload-self-"));
  cleanUp(t, () => rmSync(folder, { recursive: true, force: true }));
  chownSync(folder, uid, uid);
  return folder;
}

function startAs(
  t: TestScope,
  uid: number,
  command: readonly string[],
  env: Record<string, string>,
): ChildProcess {
  const [file = "", ...args] = command;
  const child = spawn(file, args, {
    uid,
    gid: uid,
    env: { ...process.env, ...env },
    cwd: "/",
    stdio: ["ignore", "pipe", "pipe"],
  });
  cleanUp(t, () => child.kill("SIGKILL"));
  return child;
}

/**
 * A process of the attacker, a process of another user, and the file that the attacker's status is
 * looked for in.
 */
function scene(t: TestScope) {
  const folder = folderOf(t, ATTACKER);
  const env = { XDG_RUNTIME_DIR: folder };
  const own = startAs(t, ATTACKER, ["sleep", "1000"], env).pid as number;
  const victim = startAs(t, VICTIM, ["sleep", "1000"], env).pid as number;
  mkdirSync(join(folder, "reload-self"));
  chownSync(join(folder, "reload-self"), ATTACKER, ATTACKER);
  const startTime = (pid: number) =>
    readFileSync(`/proc/${pid}/stat`, "utf8").replace(/^.*\) /s, "").split(" ")[19];
  const path = (pid: number) => join(folder, "reload-self", `${pid}.json`);
  return {
    own,
    victim,
    path,
    plant(pid: number, fields: object, uid: number = ATTACKER) {
      const status = {
        version: 1,
        pid,
        startTime: startTime(pid),
        generation: 0,
        runtime: "Node",
        since: 0,
        state: "serving",
      };
      writeFileSync(
        path(pid),
        JSON.stringify({ ...status, signal: "SIGHUP", reloads: 0, ...fields }),
      );
      chownSync(path(pid), uid, uid);
    },
  };
}

assert.equal(process.getuid?.(), 0, "these tests start processes of two users: run them as root");

for (const runtime of oneOfEachKind) {
  test(`${runtime.name}: root signals nobody on behalf of another user`, async (t) => {
    const { own, victim, plant, path } = scene(t);
    const refused = async (what: RegExp) => {
      for (const command of ["reload", "status"]) {
        const { code, stderr } = await runCli(runtime, [command, String(own)]);
        // It shows what is in the file, and does nothing.
        if (command === "status" && code === 0) continue;
        assert.match(stderr, what);
        assert.equal(code, 2);
      }
      assert.ok(isAlive(own) && isAlive(victim));
    };
    plant(own, { signal: "SIGKILL" });
    await refused(/reloads on SIGKILL; this command sends only SIGHUP/);
    plant(own, { supervises: victim });
    plant(victim, { signal: "SIGKILL" });
    await refused(/keeps no status/);
    plant(victim, {}, VICTIM);
    await refused(/keeps no status/);
    rmSync(path(own));
    symlinkSync(path(victim), path(own));
    await refused(/keeps no status/);
    rmSync(path(own));
    plant(own, {}, VICTIM);
    await refused(/keeps no status/);
    rmSync(path(own));
    execFileSync("mkfifo", [path(own)]);
    chownSync(path(own), ATTACKER, ATTACKER);
    await refused(/keeps no status/);
    rmSync(path(own));
    plant(own, { filler: "x".repeat(2 ** 20) });
    await refused(/keeps no status/);
  });

  test(`${runtime.name}: a pid file leads to its owner's process only, and is no FIFO`, async (t) => {
    const { own, victim, plant } = scene(t);
    plant(own, {});
    const folder = folderOf(t, ATTACKER);
    const pidFile = join(folder, "pid");
    writeFileSync(pidFile, `${victim}\n`);
    chownSync(pidFile, ATTACKER, ATTACKER);
    const planted = await runCli(runtime, ["reload", pidFile]);
    assert.match(planted.stderr, /belongs to user 65534, and process \d+ to another/);
    assert.equal(planted.code, 2);
    rmSync(pidFile);
    execFileSync("mkfifo", [pidFile]);
    const fifo = await runCli(runtime, ["reload", pidFile]);
    assert.match(fifo.stderr, /is not an ordinary file/);
    assert.equal(fifo.code, 2);
    // What a program finds where its pid file should be.
    const env = { BEHAVIOUR: join(folder, "behaviour"), OPTIONS: JSON.stringify({ pidFile }) };
    writeFileSync(env.BEHAVIOUR, "run");
    const program = startAs(
      t,
      0,
      [runtime.executable, ...runtime.flags, fixture("program.ts")],
      env,
    );
    let text = "";
    program.stderr?.on("data", (data) => text += data);
    await until("the program to end", () => program.exitCode !== null);
    assert.match(text, /pid file .* cannot be read: .*not an ordinary file/);
    assert.ok(isAlive(victim));
  });

  test(`${runtime.name}: root reloads the program of another user, and that user's pid file can be read by all`, async (t) => {
    const folder = folderOf(t, ATTACKER);
    const pidFile = join(folder, "pid");
    const env = {
      XDG_RUNTIME_DIR: folder,
      HOME: folder,
      DENO_DIR: join(folder, "deno"),
      BEHAVIOUR: join(folder, "behaviour"),
      OPTIONS: JSON.stringify({ pidFile }),
    };
    writeFileSync(env.BEHAVIOUR, "run");
    chmodSync(env.BEHAVIOUR, 0o644);
    const program = startAs(t, ATTACKER, [
      runtime.executable,
      ...runtime.flags,
      fixture("program.ts"),
    ], env);
    let text = "";
    program.stderr?.on("data", (data) => text += data);
    program.stdout?.on("data", (data) => text += data);
    cleanUp(t, () => {
      for (const [, pid] of text.matchAll(/"type":"start","pid":(\d+)/g)) {
        if (isAlive(Number(pid))) process.kill(Number(pid), "SIGKILL");
      }
    });
    await until(`the program to run`, () => text.includes(`"type":"start"`));
    assert.equal(statSync(pidFile).mode & 0o777, 0o644);
    const { code, stdout, stderr } = await runCli(runtime, ["reload", pidFile]);
    assert.equal(code, 0, stderr);
    assert.match(stdout, /^reloaded: pid \d+ → \d+/);
  });
}
