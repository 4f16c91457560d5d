/** The channel of a process on Deno that hands no socket over. */
import assert from "node:assert/strict";
import { mkdirSync, readdirSync, readFileSync, statSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { parseEnviron } from "../../../adapters/shared/environment.ts";
import { isAlive } from "../../support/proc.ts";
import { type Program, startProgram, temporaryFolder } from "../../support/program.ts";
import { runtimes } from "../../support/runtimes.ts";
import { until } from "../../support/wait.ts";

const deno = runtimes.find(({ kind }) => kind === "deno");

function environ(pid: number) {
  return parseEnviron(readFileSync(`/proc/${pid}/environ`, "utf8"));
}

function pathOf(pid: number): string | undefined {
  return environ(pid).RELOAD_SELF_CHANNEL;
}

/** All in the folder but the status files. */
function sockets({ runtimeFolder }: Program): string[] {
  return readdirSync(join(runtimeFolder, "reload-self")).filter((name) =>
    !/\.json(\.|$)/.test(name)
  );
}

if (deno !== undefined) {
  test("deno: a new process connects where only its user can, and is not burdened with Node's channel", async (t) => {
    const program = startProgram(t, deno);
    const first = await program.report("start");
    program.behave("manual");
    program.signal(first);
    const second = await program.report("waiting");
    assert.equal(environ(second.pid).NODE_CHANNEL_FD, undefined);
    const folder = join(program.runtimeFolder, "reload-self");
    // Read while the process waits: it may be gone when its successor is in charge.
    const path = pathOf(second.pid);
    assert.match(path ?? "", new RegExp(`^${folder}/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`));
    assert.equal(statSync(folder).mode & 0o777, 0o700);
    await until("the path to be gone", () => sockets(program).length === 0);
    program.signal(second, "SIGUSR2");
    await program.report("in-charge", { pid: second.pid });
    program.behave("run");
    program.signal(second);
    const third = await program.report("in-charge", { generation: 2 });
    assert.notEqual(pathOf(third.pid), path, "a path of its own");
  });

  test("deno: a new process that never connects leaves no socket behind, and one that comes too late finds none", async (t) => {
    const program = startProgram(t, deno);
    const first = await program.report("start");
    program.behave("never");
    program.signal(first);
    const second = await program.report("never");
    const [name] = sockets(program);
    assert.ok(name !== undefined, "it is waited for");
    process.kill(second.pid, "SIGKILL");
    await program.report("reload-fail");
    assert.deepEqual(sockets(program), []);
    const socket = connect(join(program.runtimeFolder, "reload-self", name));
    const [error] = await new Promise<NodeJS.ErrnoException[]>((resolve) =>
      socket.once("error", (error) => resolve([error]))
    );
    assert.equal(error?.code, "ENOENT");
  });

  test("deno: where there can be no such socket, the new process inherits Node's channel", async (t) => {
    // Longer than a path of a socket may be; unix(7).
    const long = join(temporaryFolder(t), "x".repeat(90));
    mkdirSync(long);
    const program = startProgram(t, deno, { env: { XDG_RUNTIME_DIR: undefined, TMPDIR: long } });
    const first = await program.report("start");
    program.signal(first);
    const second = await program.report("in-charge", { generation: 1 });
    assert.equal(pathOf(second.pid), undefined);
    await until("the old process to be gone", () => !isAlive(first.pid));
  });
}
