/** What makes a program reload by itself, as functions and as options of `run` and `serve`. */
import assert from "node:assert/strict";
import { mkdirSync, renameSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { TestScope } from "../support/clean_up.ts";
import { cli, runCli } from "../support/cli.ts";
import { isAlive } from "../support/proc.ts";
import {
  fixture,
  type Program,
  type Report,
  startProgram,
  temporaryFolder,
} from "../support/program.ts";
import { oneOfEachKind, type Runtime } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";

/** Starts a program that has triggers of its own. */
function start(t: TestScope, runtime: Runtime, triggers: object, behaviour = "run"): Program {
  return startProgram(t, runtime, {
    script: fixture("triggered.ts"),
    behaviour,
    env: { TRIGGERS: JSON.stringify(triggers) },
  });
}

/**
 * It takes note of what is there a moment after its start: a change before that is made once more,
 * after this time.
 */
const CHANGE_MS = 2_000;

/** Changes something until it is noticed. */
async function reloads(program: Program, { pid }: Report, change: () => void): Promise<void> {
  let changed = -Infinity;
  await until(`a reload of ${pid}`, () => {
    if (performance.now() - changed > CHANGE_MS) {
      changed = performance.now();
      attempt(change);
    }
    return program.reports.some((report) => report.type === "reload-begin" && report.pid === pid);
  });
}

const append = (file: string) => writeFileSync(file, "1", { flag: "a" });

/** Waits for a generation, and for the end of the one before. */
async function follows(program: Program, old: Report): Promise<Report> {
  const next = await program.report("in-charge", { generation: old.generation + 1 });
  await until("the old process to be gone", () => !isAlive(old.pid));
  return next;
}

/** What changes files: each of them in its own way. */
function changes(folder: string): [what: string, change: () => void][] {
  const write = (name: string, text: string) => writeFileSync(join(folder, name), text);
  const link = (to: string) => {
    symlinkSync(to, join(folder, "tree", "..data.new"));
    renameSync(join(folder, "tree", "..data.new"), join(folder, "tree", "..data"));
  };
  mkdirSync(join(folder, "tree"));
  mkdirSync(join(folder, "tree", "v1"));
  mkdirSync(join(folder, "tree", "v2"));
  write("tree/v1/config", "1");
  write("tree/v2/config", "2");
  link("v1");
  symlinkSync("..data/config", join(folder, "config"));
  symlinkSync("tree/..data/config", join(folder, "mounted"));
  write("key.pem", "1");
  return [
    ["a file is written", () => write("key.pem", "22")],
    ["an editor replaces a file", () => {
      write("key.pem~", "333");
      renameSync(join(folder, "key.pem~"), join(folder, "key.pem"));
    }],
    ["a ConfigMap swaps a link", () => link("v2")],
    ["a folder gets a file in a new folder", () => {
      mkdirSync(join(folder, "tree", "new"));
      write("tree/new/file", "1");
    }],
  ];
}

for (const runtime of oneOfEachKind) {
  test(`${runtime.name}: reloadOnChange follows files that are written and replaced, links, and folders`, async (t) => {
    const folder = temporaryFolder(t);
    const steps = changes(folder);
    const program = start(t, runtime, {
      watch: ["key.pem", "mounted", "tree"].map((name) => join(folder, name)),
    });
    let current = await program.report("start");
    for (const [what, change] of steps) {
      await reloads(program, current, change);
      t.diagnostic(what);
      current = await follows(program, current);
      await program.report("start", { pid: current.pid });
    }
    assert.deepEqual(program.reports.filter(({ type }) => type === "reload-fail"), []);
  });

  test(`${runtime.name}: a reload that has failed is tried again, and ends nothing`, async (t) => {
    const file = join(temporaryFolder(t), "file");
    writeFileSync(file, "1");
    const program = start(t, runtime, { watch: [file] });
    const first = await program.report("start");
    program.behave("exit 3");
    await reloads(program, first, () => append(file));
    assert.equal((await program.report("reload-fail")).error.exitCode, 3);
    await program.line(
      new RegExp(`process ${first.pid}: that reload has failed: it is tried again in 5 s`),
    );
    program.behave("run");
    await follows(program, first);
  });

  test(`${runtime.name}: reloadAbove ends a leak, reloadEvery comes again and again`, async (t) => {
    const leaking = start(t, runtime, { above: { memory: "300M", pause: "1s" } }, "leak");
    const ticking = start(t, runtime, { every: "1s" });
    const cron = start(t, runtime, { every: "* * * * * *" });
    const first = await leaking.report("start");
    await leaking.line(/the process has \d+ MiB in memory, more than 300 MiB: reloading/);
    leaking.behave("run");
    await follows(leaking, first);
    await ticking.report("in-charge", { generation: 2 });
    await cron.report("in-charge", { generation: 2 });
  });

  test(`${runtime.name}: run --watch, --max-memory and --every`, async (t) => {
    const file = join(temporaryFolder(t), "file");
    writeFileSync(file, "1");
    const run = (args: string[], behaviour?: string) =>
      startProgram(t, runtime, {
        command: [
          ...cli(runtime),
          "run",
          ...args,
          "--",
          runtime.executable,
          ...runtime.flags,
          fixture("triggered.ts"),
        ],
        env: { TRIGGERS: "{}" },
        behaviour,
      });
    const [watching, leaking, ticking] = [
      run(["--watch", file]),
      run(["--max-memory", "300M", "--memory-pause", "1s"], "leak"),
      run(["--every", "1s"]),
    ];
    const first = await watching.report("start");
    await reloads(watching, first, () => append(file));
    await watching.line(new RegExp(`${file} has changed: reloading`));
    await follows(watching, first);
    await leaking.line(/the process has \d+ MiB in memory, more than 300 MiB: reloading/);
    await leaking.report("in-charge", { generation: 1 });
    await ticking.report("in-charge", { generation: 2 });
  });

  test(`${runtime.name}: serve --watch`, async (t) => {
    const module = join(temporaryFolder(t), "app.mjs");
    const write = (text: string) =>
      writeFileSync(module, `export default { fetch: () => new Response("${text}") };`);
    write("1");
    const args = ["serve", "--port", "0", "--watch", module, module];
    const program = startProgram(t, runtime, { command: [...cli(runtime), ...args] });
    const line = await program.line(/^Listening on/);
    const url = /http:\S+/.exec(line)?.[0] as string;
    let written = 0;
    await until("the new module to answer", async () => {
      if (performance.now() - written > CHANGE_MS) write("2");
      if (performance.now() - written > CHANGE_MS) written = performance.now();
      const answer = await fetch(url, { headers: { connection: "close" } }).then((response) =>
        response.text()
      );
      return answer !== "1";
    });
  });
}

function attempt(work: () => void): void {
  try {
    work();
  } catch {
    // It was done before.
  }
}

test("a wrong option is an error that says so, before anything is started", async () => {
  const [runtime] = oneOfEachKind as [Runtime];
  for (
    const [args, message] of [
      [["--every", "often"], /--every must be a time such as "24h", or a pattern of cron/],
      [["--every", "0 0 30 2 *"], /--every: 0 0 30 2 \* will never be/],
      [["--watch", "/nothing/here"], /there is no file or folder \/nothing\/here to watch/],
      [["--max-memory", "much"], /--max-memory must be a size such as 500M or 2G, not much/],
      [["--memory-pause", "1m"], /--memory-pause belongs to --max-memory/],
    ] as [string[], RegExp][]
  ) {
    const { code, stderr } = await runCli(runtime, ["run", ...args, "--", "true"]);
    assert.equal(code, 2);
    assert.match(stderr, message);
  }
});
