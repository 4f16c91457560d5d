import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { VERSION } from "../../cli/version.ts";
import { cleanUp } from "../support/clean_up.ts";
import { cli, runCli } from "../support/cli.ts";
import { isAlive } from "../support/proc.ts";
import { fixture, startProgram, temporaryFolder } from "../support/program.ts";
import { oneOfEachKind } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";

for (const runtime of oneOfEachKind) {
  test(`${runtime.name}: help and version, for the whole and for each command`, async () => {
    const all = await runCli(runtime, ["--help"]);
    assert.equal(all.code, 0);
    assert.equal((await runCli(runtime, ["--version"])).stdout, `${VERSION}\n`);
    for (const command of ["run", "serve", "reload", "status", "doctor"]) {
      assert.match(all.stdout, new RegExp(`^  ${command} +\\S`, "m"));
      const { code, stdout } = await runCli(runtime, [command, "--help"]);
      assert.equal(code, 0);
      assert.match(stdout, new RegExp(`^reload-self ${command}[^]*-h, --help`));
    }
    assert.ok(!all.stdout.includes("\u001b"), "no colours but on a terminal");
  });

  test(`${runtime.name}: what cannot be done is one line that says what to do, and exit code 2`, async (t) => {
    const folder = temporaryFolder(t);
    const file = (name: string, text: string) => {
      writeFileSync(join(folder, name), text);
      return join(folder, name);
    };
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen(0, "0.0.0.0", resolve));
    cleanUp(t, () => taken.close());
    const { port } = taken.address() as { port: number };
    const good = file("good.mjs", "export default { fetch: () => new Response('good') };");
    const cases: [string[], RegExp][] = [
      [["relaod", "1"], /no command relaod; see --help/],
      [["--verison"], /no option --verison; see --help/],
      [
        ["run", "--stop-timout", "1", "--", "sleep"],
        /run: there is no option --stop-timout; see reload-self run --help/,
      ],
      [["run", "-z"], /run: there is no option -z;/],
      [["run", "--instances"], /run: --instances needs a value;/],
      [["run", "--instances", "--", "sleep"], /run: --instances needs a value;/],
      [["run", "--auto=yes", "--", "sleep"], /run: --auto takes no value;/],
      [["run", "--watch=", "--", "sleep"], /--watch must be a file or a folder, not empty/],
      [
        ["run", "--max-memory", "500", "--", "sleep"],
        /--max-memory must be a size such as 500M or 2G, not 500/,
      ],
      [["reload", "--timeout", "0", "1"], /--timeout must be a time such as .*, not 0/],
      [["doctor", "here"], /doctor: it takes no arguments/],
      [
        ["run", "--stop-timeout", "soon", "--", "sleep"],
        /--stop-timeout must be a time such as 500ms, 10s or 2m, not soon/,
      ],
      [["run"], /run: which command\?/],
      [["run", "--", "no-such-program"], /no program no-such-program in PATH/],
      [["run", "--", "/nowhere/program"], /no program \/nowhere\/program that can be run/],
      [["reload"], /give it one pid/],
      [["reload", "2147483647"], /there is no process 2147483647/],
      [["reload", "0"], /0 is not a process id/],
      [["status", "99999999999"], /99999999999 is not a process id/],
      [["reload", String(process.pid)], /keeps no status in .*: it does not use @js0\/reload-self/],
      [
        ["reload", join(folder, "missing")],
        /is not a process id, and not a pid file that can be read/,
      ],
      [["reload", file("garbage", "PATH=/bin")], /has no process id in it, but "PATH=\/bin"/],
      [["status", file("stale", "2147483647\n")], /there is no process 2147483647/],
      [["serve"], /give it one module/],
      [["serve", join(folder, "missing.ts")], /there is no module/],
      [["serve", file("nothing.mjs", "export const x = 1;")], /has no fetch handler/],
      [["serve", "--port", "http", good], /--port must be a whole number/],
      [
        ["serve", "--port", String(port), good],
        new RegExp(`port ${port} is in use by another program`),
      ],
      [["serve", "--port", "1", "--unix", "x", good], /not both/],
    ];
    for (const [args, what] of cases) {
      const { code, stdout, stderr } = await runCli(runtime, args, { XDG_RUNTIME_DIR: folder });
      assert.match(stderr, what);
      assert.equal(stderr.trimEnd().split("\n").length, 1, stderr);
      assert.equal(code, 2, `${args.join(" ")}: ${stderr}`);
      assert.equal(stdout, "");
    }
    const left = readdirSync(folder, { recursive: true }).map(String);
    assert.deepEqual(
      left.filter((name) => name.includes("run-") || name.endsWith(".json")),
      [],
      "nothing is left behind",
    );
  });

  test(`${runtime.name}: an error is coloured on a terminal, and not in a file`, (t) => {
    const log = join(temporaryFolder(t), "log");
    // Node writes no colours where it finds CI.
    const { NO_COLOR: _, CI: __, ...inheritedState } = process.env;
    const env = { ...inheritedState, TERM: "xterm" };
    const shown = (command: string) => {
      const { stdout } = spawnSync("script", ["-qec", command, "/dev/null"], {
        env,
        encoding: "utf8",
      });
      return stdout;
    };
    const wrong = [...cli(runtime), "relaod"].map((part) => `'${part}'`).join(" ");
    assert.ok(shown(wrong).includes("\u001b[31mreload-self"));
    shown(`${wrong} 2>${log}`);
    assert.match(readFileSync(log, "utf8"), /^reload-self: there is no command relaod/);
  });

  // Deno itself does not start there.
  if (runtime.kind !== "deno") {
    test(`${runtime.name}: commands in a folder that was removed, as that of a release may be`, (t) => {
      const folder = temporaryFolder(t);
      const command = `cd "$0" && rmdir "$0" && exec "$@" status 999999999`;
      const { status, stderr } = spawnSync("/bin/sh", ["-c", command, folder, ...cli(runtime)], {
        encoding: "utf8",
      });
      assert.equal(status, 2);
      assert.match(stderr, /^reload-self: [^\n]*\n$/);
    });
  }

  test(`${runtime.name}: status and reload of a program, by pid and by pid file`, async (t) => {
    const folder = temporaryFolder(t);
    const pidFile = join(folder, "pid");
    const program = startProgram(t, runtime, { env: { OPTIONS: JSON.stringify({ pidFile }) } });
    const first = await program.report("start");
    const shown = await runCli(runtime, ["status", String(first.pid)]);
    assert.match(
      shown.stdout,
      new RegExp(`^pid +${first.pid}\ngeneration +0\nruntime +(Node|Deno|Bun)\nstate +serving\n`),
    );
    const done = await runCli(runtime, ["reload", pidFile]);
    assert.equal(done.code, 0, done.stderr);
    const [, from, to] =
      /^reloaded: pid (\d+) → (\d+) \(generation 1\) in \d+ ms\n$/.exec(done.stdout) ?? [];
    const second = await program.report("in-charge", { generation: 1 });
    assert.deepEqual([Number(from), Number(to)], [first.pid, second.pid]);

    program.behave("exit 3");
    const failed = await runCli(runtime, ["reload", String(second.pid)]);
    assert.equal(failed.code, 1);
    assert.match(
      failed.stderr,
      new RegExp(
        `reload failed: the new process \\(pid \\d+\\) exited with code 3.* Process ${second.pid} stays in charge`,
      ),
    );
    const json = await runCli(runtime, ["status", "--json", String(second.pid)]);
    const status = JSON.parse(json.stdout);
    assert.equal(status.state, "serving");
    assert.match(status.last.error, /exited with code 3/);

    program.signal(second, "SIGTERM");
    await until("all processes to be gone", () => !program.pids().some(isAlive));
    assert.deepEqual(
      readdirSync(join(program.runtimeFolder, "reload-self")),
      [],
      "no status is left",
    );
  });

  test(`${runtime.name}: a stranger that has the pid of a program which was killed is left alone`, async (t) => {
    const program = startProgram(t, runtime);
    const first = await program.report("start");
    const folder = join(program.runtimeFolder, "reload-self");
    const left = JSON.parse(readFileSync(join(folder, `${first.pid}.json`), "utf8"));
    const stranger = startProgram(t, runtime, {
      command: ["sleep", "1000"],
      env: { XDG_RUNTIME_DIR: program.runtimeFolder },
    });
    const pid = stranger.process.pid as number;
    writeFileSync(join(folder, `${pid}.json`), JSON.stringify({ ...left, pid }));
    for (const command of ["reload", "status"]) {
      const { code, stderr } = await runCli(runtime, [command, String(pid)]);
      assert.equal(code, 2);
      assert.match(stderr, /keeps no status in/);
    }
    assert.ok(isAlive(pid));
  });

  test(`${runtime.name}: a reload that fails shows the last lines that the new process wrote to stderr`, async (t) => {
    const log = join(temporaryFolder(t), "log");
    writeFileSync(log, "before\n");
    const program = startProgram(t, runtime, {
      command: [
        "/bin/sh",
        "-c",
        `exec "$@" 2>>${log}`,
        "sh",
        runtime.executable,
        ...runtime.flags,
        fixture("program.ts"),
      ],
    });
    const first = await program.report("start");
    program.behave("crash");
    const { code, stderr } = await runCli(runtime, ["reload", String(first.pid)]);
    assert.equal(code, 1);
    assert.match(stderr, /exited with code 1[^]*On stderr:\n {2}[^]*cannot be imported/);
    assert.doesNotMatch(stderr, /before\n/);
  });

  test(`${runtime.name}: a reload while another is under way waits for the one that comes after it`, async (t) => {
    const program = startProgram(t, runtime);
    const first = await program.report("start");
    program.behave("manual");
    program.signal(first);
    const waiting = await program.report("waiting");
    program.behave("run");
    const outcome = runCli(runtime, ["reload", String(first.pid)]);
    await program.report("reload-later");
    program.signal(waiting, "SIGUSR2");
    const { code, stdout, stderr } = await outcome;
    assert.equal(code, 0, stderr);
    const third = await program.report("in-charge", { generation: 2 });
    assert.match(stdout, new RegExp(`pid ${waiting.pid} → ${third.pid} \\(generation 2\\)`));
  });

  test(`${runtime.name}: doctor finds that everything is as it should be here`, async (t) => {
    const { code, stdout } = await runCli(runtime, ["doctor"], {
      XDG_RUNTIME_DIR: temporaryFolder(t),
    });
    assert.doesNotMatch(stdout, /!!/);
    assert.equal(code, 0);
    assert.match(stdout, /^ok +token\.bind /m);
    assert.match(
      stdout,
      runtime.kind === "node"
        ? /native servers +Node has none/
        : /^ok +(Deno|Bun)\.serve .*the socket itself is handed over/m,
    );
  });
}

const deno = oneOfEachKind.find(({ kind }) => kind === "deno");
if (deno !== undefined) {
  test("deno: doctor names the flags that are missing", async () => {
    const flags = ["run", "--quiet", "--allow-read", "--allow-net", "--allow-sys"];
    const { code, stdout } = await runCli({ ...deno, flags }, ["doctor"]);
    assert.equal(code, 1);
    for (const flag of ["--allow-ffi", "--allow-env", "--allow-run=deno"]) {
      assert.ok(stdout.includes(flag), stdout);
    }
  });
}
