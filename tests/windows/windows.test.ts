/**
 * The Windows builds of the runtimes under Wine: `npm run test:windows`. What is tested is handlers
 * and reloads, sockets, pipes and command lines; not which processes CTRL_BREAK goes to, because
 * Wine 8 does not know it (see ctrl.c).
 */
import assert from "node:assert/strict";
import { type ChildProcess, execFile, spawn, spawnSync } from "node:child_process";
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { get } from "node:http";
import { dirname, join } from "node:path";
import { test, type TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import { cleanUp } from "../support/clean_up.ts";
import type { Report } from "../support/program.ts";
import { until } from "../support/wait.ts";

const root = dirname(fileURLToPath(new URL("../../mod.ts", import.meta.url)));
const folder = join(root, "node_modules/.cache/reload-self-wine");
const WINE = "/usr/lib/wine/wine64";
const wineEnvironment = {
  ...process.env,
  HOME: folder,
  WINEPREFIX: `${folder}/prefix`,
  WINEARCH: "win64",
  WINEDEBUG: "-all",
  WINEDLLOVERRIDES: "mscoree,mshtml,winedbg.exe=d",
  DISPLAY: "",
  NO_COLOR: "1",
};

interface WindowsRuntime {
  name: string;
  command: string[];
  /** Can it hand sockets over? */
  sendsHandles: boolean;
}

const runtimes: WindowsRuntime[] = [
  {
    name: "node22",
    command: ["node22/bin/node.exe", "--disable-warning=ExperimentalWarning"],
    sendsHandles: true,
  },
  { name: "node24", command: ["node24/bin/node.exe"], sendsHandles: true },
  { name: "bun", command: ["bun/bin/bun.exe"], sendsHandles: true },
  {
    name: "deno",
    command: ["deno/deno.exe", "run", "-A", "--no-check", "--quiet"],
    sendsHandles: false,
  },
];

const windowsPath = (path: string) => `Z:${path.replaceAll("/", "\\")}`;

/** A program of the Windows builds. */
interface Program {
  reports(): Report[];
  report(type: string, match?: Partial<Report>): Promise<Report>;
  /** Sends CTRL_C or CTRL_BREAK. */
  event(pid: number, event: "CTRL_C" | "CTRL_BREAK"): void;
  /** Is the process there? */
  isAlive(pid: number): boolean;
  readonly port: number;
  readonly folder: string;
}

function commandOf({ command: [executable = "", ...flags] }: WindowsRuntime): string[] {
  return [windowsPath(join(folder, executable)), ...flags];
}

/** The pids are Wine's own: what is to be done with a process is done in there. */
function control(pid: number, what: "0" | "1" | "alive" | "kill"): boolean {
  return spawnSync(WINE, [join(folder, "ctrl.exe"), String(pid), what], { env: wineEnvironment })
    .status === 0;
}

let lastPort = 20_000 + (process.pid % 5_000);

function start(
  t: TestContext,
  runtime: WindowsRuntime,
  { name = "test", args = [], terminal = false }: {
    name?: string;
    args?: string[];
    terminal?: boolean;
  } = {},
): Program {
  const base = mkdtempSync(join(folder, "run-"));
  const own = join(base, name);
  mkdirSync(own);
  // Below the ports that the kernel gives to clients: a client's closed connection on the same
  // number keeps Wine from binding it.
  const port = lastPort++;
  const output = openSync(join(own, "output"), "a");
  const script = windowsPath(join(root, "tests/windows/program.mjs"));
  const [file = "", ...flags] = commandOf(runtime);
  const command = [WINE, file, ...flags, script, windowsPath(own), String(port), ...args];
  // Wine makes a console of a terminal.
  const [program = "", ...rest] = terminal
    ? ["script", "-qec", command.map((part) => `'${part}'`).join(" "), "/dev/null"]
    : command;
  const child: ChildProcess = spawn(program, rest, {
    env: wineEnvironment,
    stdio: ["ignore", output, output],
  });
  closeSync(output);
  const reports = (): Report[] => {
    // A file for each process: under Wine two that append to the same one write over each other.
    const logs = readdirSync(own).filter((name) => name.startsWith("log."));
    return logs.flatMap((name) =>
      readFileSync(join(own, name), "utf8").split("\n").filter((line) => line.endsWith("}"))
    )
      .map((line) => JSON.parse(line));
  };
  cleanUp(t, () => {
    for (const pid of new Set(reports().map(({ pid }) => pid))) control(pid, "kill");
    child.kill("SIGKILL");
    rmSync(base, { recursive: true, force: true });
  });
  return {
    reports,
    async report(type, match = {}) {
      try {
        return await until(
          type,
          () =>
            reports().find((report) =>
              report.type === type &&
              Object.entries(match).every(([key, value]) => report[key] === value)
            ),
        );
      } catch (error) {
        throw new Error(
          `${(error as Error).message}\n${JSON.stringify(reports())}\n${
            readFileSync(join(own, "output"), "utf8")
          }`,
        );
      }
    },
    event(pid, event) {
      assert.ok(control(pid, event === "CTRL_C" ? "0" : "1"), event);
    },
    isAlive: (pid) => control(pid, "alive"),
    port,
    folder: own,
  };
}

/** What a client gets, one request after the other, each on a connection of its own. */
function startLoad(t: TestContext, port: number) {
  const failures: string[] = [];
  const answers: string[] = [];
  let stopped = false;
  const ask = () =>
    new Promise<void>((resolve) => {
      const request = get(
        { port, host: "127.0.0.1", agent: false, timeout: 10_000 },
        (response) => {
          let text = "";
          response.on("data", (data) => text += data);
          response.on("end", () => (answers.push(text.trim()), resolve()));
          response.on("error", ({ message }) => (failures.push(message), resolve()));
        },
      );
      request.on("timeout", () => request.destroy(new Error("no answer in time")));
      request.on(
        "error",
        (error: NodeJS.ErrnoException) => (failures.push(error.code ?? error.message), resolve()),
      );
    });
  const done = (async () => {
    while (!stopped) {
      await ask();
      // Gentle: between two requests, not for something.
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  })();
  const stop = async () => {
    stopped = true;
    await done;
  };
  cleanUp(t, stop);
  return { failures, answers, stop };
}

/**
 * Checks the exit code. Wine itself crashes now and then when Deno ends: then there is none, and
 * what was written has to do.
 */
function assertCode({ code, signal, output }: Ended, expected: number): void {
  if (signal === null || !["SIGSEGV", "SIGABRT", "SIGILL", "SIGBUS", "SIGTRAP"].includes(signal)) {
    assert.equal(code, expected, `${signal} ${output}`);
  }
}

/** How a run of the command line tool ended. */
interface Ended {
  code: number | null;
  signal: string | null;
  output: string;
}

/**
 * Makes a folder a drive, with a /proc in which a process is a zombie and has another start time:
 * what Linux tells is not Windows'.
 */
function makeDrive(t: TestContext, path: string, pid: number): void {
  mkdirSync(join(path, "proc", String(pid)), { recursive: true });
  writeFileSync(join(path, "proc", String(pid), "status"), "Name:\tstranger\nState:\tZ (zombie)\n");
  writeFileSync(
    join(path, "proc", String(pid), "stat"),
    `${pid} (stranger) Z ${"1 ".repeat(40)}\n`,
  );
  const drive = join(folder, "prefix/dosdevices/y:");
  rmSync(drive, { force: true });
  symlinkSync(path, drive);
  cleanUp(t, () => rmSync(drive, { force: true }));
}

function cli(runtime: WindowsRuntime, args: string[], cwd = root): Promise<Ended> {
  const output = join(folder, `cli-${process.pid}`);
  const fd = openSync(output, "w");
  const [file = "", ...flags] = commandOf(runtime);
  const child = spawn(WINE, [file, ...flags, windowsPath(join(root, "cli/main.ts")), ...args], {
    cwd,
    env: wineEnvironment,
    stdio: ["ignore", fd, fd],
  });
  closeSync(fd);
  return new Promise((resolve) =>
    child.once(
      "exit",
      (code, signal) =>
        resolve({
          code,
          signal,
          output: readFileSync(output, "utf8").replace(/^Internal error: .*\n/gm, ""),
        }),
    )
  );
}

test("Windows, under Wine", async (t) => {
  const prepared = await new Promise<string | undefined>((resolve) => {
    execFile(join(root, "tests/windows/prepare.sh"), [folder], (error, _, stderr) => {
      if (error === null) resolve(undefined);
      else if (error.code === 3) resolve(`not tested on Windows: ${stderr.trim()}`);
      else assert.fail(stderr);
    });
  });
  if (prepared !== undefined) return t.skip(prepared);
  cleanUp(t, () => spawnSync("/usr/lib/wine/wineserver64", ["-k"], { env: wineEnvironment }));

  for (const runtime of runtimes) {
    await t.test(`${runtime.name}: three reloads by CTRL_BREAK under a gentle load, and the end by CTRL_C`, async (t) => {
      const program = start(t, runtime);
      let current = await program.report("serving", { generation: 0 });
      const load = startLoad(t, program.port);
      for (let i = 1; i <= 3; i++) {
        await until(`generation ${i - 1} to answer`, () => load.answers.includes(String(i - 1)));
        program.event(current.pid, "CTRL_BREAK");
        const old = current;
        current = await program.report("in-charge", { generation: i });
        assert.notEqual(current.pid, old.pid);
        await program.report("drained", { generation: i - 1 });
        await until(`generation ${i} to answer`, () => load.answers.includes(String(i)));
        await until("the old process to be gone", () => !program.isAlive(old.pid));
        assert.equal(program.isAlive(current.pid), true, "the new process outlives the old one");
      }
      await load.stop();
      // Where no socket can be handed over, nobody listens for a moment.
      const codes = runtime.sendsHandles ? [] : ["ECONNREFUSED", "ECONNRESET"];
      const lost = load.failures.filter((code) => !codes.includes(code));
      assert.deepEqual(lost, [], `of ${load.answers.length + load.failures.length} requests`);
      program.event(current.pid, "CTRL_C");
      const { reason } = await program.report("cancelled", { generation: 3 });
      assert.deepEqual(reason, { kind: "shutdown", signal: "SIGINT" });
      await until("it to be gone", () => !program.isAlive(current.pid));
    });

    await t.test(`${runtime.name}: a new process that fails leaves the old one serving`, async (t) => {
      const program = start(t, runtime);
      const first = await program.report("serving");
      writeFileSync(join(program.folder, "broken"), "");
      program.event(first.pid, "CTRL_BREAK");
      const { error } = await program.report("reload-fail");
      assert.equal(error.code, "exit");
      const load = startLoad(t, program.port);
      await until("the old process to answer", () => load.answers.includes("0"));
      rmSync(join(program.folder, "broken"));
      program.event(first.pid, "CTRL_BREAK");
      await program.report("in-charge", { generation: 1 });
    });

    await t.test(`${runtime.name}: token.reload() resolves with the new process, and rejects where that fails`, async (t) => {
      const program = start(t, runtime);
      await program.report("serving");
      const reload = async () => {
        const response = await fetch(`http://127.0.0.1:${program.port}/reload`, {
          headers: { connection: "close" },
        });
        return await response.text();
      };
      writeFileSync(join(program.folder, "broken"), "");
      assert.equal(await reload(), "exit\n");
      rmSync(join(program.folder, "broken"));
      const pid = Number(await reload());
      await program.report("in-charge", { generation: 1, pid });
    });

    await t.test(`${runtime.name}: without a console: status and reload by the pipe, and a failure is told`, async (t) => {
      const program = start(t, runtime);
      const first = await program.report("serving");
      makeDrive(t, program.folder, first.pid);
      const status = await cli(runtime, ["status", String(first.pid)], program.folder);
      assert.match(status.output, new RegExp(`pid +${first.pid}\\r?\\n[^]*generation +0`));
      const done = await cli(runtime, ["reload", "--timeout", "20", String(first.pid)]);
      assertCode(done, 0);
      const second = await program.report("in-charge", { generation: 1 });
      assert.match(done.output, new RegExp(`reloaded: pid ${first.pid} → ${second.pid} `));
      writeFileSync(join(program.folder, "broken"), "");
      const failed = await cli(runtime, ["reload", String(second.pid)]);
      assertCode(failed, 1);
      assert.match(failed.output, /reload failed: the new process .* exited with code/);
      const none = await cli(runtime, ["reload", "999999"]);
      assertCode(none, 2);
      assert.match(none.output, /no process 999999/);
    });

    await t.test(`${runtime.name}: on a console, the new process is on it too, where the runtime can call C`, async (t) => {
      const program = start(t, runtime, { terminal: true });
      const first = await program.report("serving");
      program.event(first.pid, "CTRL_BREAK");
      const { processes } = await program.report("console", { generation: 1 });
      if (runtime.name.startsWith("node")) assert.equal(processes, undefined);
      else assert.ok(processes > 0, String(processes));
    });

    await t.test(`${runtime.name}: spaces, quotes, backslashes and other letters than ASCII's`, async (t) => {
      const args = [
        "a b",
        'say "hi"',
        "C:\\dir\\",
        'back\\"slash',
        "größer 日本",
        "",
        "100%PATH%",
        "^caret&",
      ];
      const program = start(t, runtime, { name: "a folder, größer 日本", args });
      const first = await program.report("serving");
      const [begun] = program.reports().filter(({ type }) => type === "start");
      assert.deepEqual(begun?.args, args);
      program.event(first.pid, "CTRL_BREAK");
      await program.report("in-charge", { generation: 1 });
      const next = await program.report("start", { generation: 1 });
      assert.deepEqual(next.args, args, "as they were");
    });
  }
});
