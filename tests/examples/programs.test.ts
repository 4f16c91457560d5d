/** The examples that are whole programs. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { connect } from "node:tls";
import { fileURLToPath } from "node:url";
import { certificate } from "../fixtures/certificate.ts";
import { cleanUp } from "../support/clean_up.ts";
import { freePort } from "../support/port.ts";
import { isAlive } from "../support/proc.ts";
import { pidOnLine, type Program, startProgram, temporaryFolder } from "../support/program.ts";
import { oneOfEachKind, type Runtime, runtimes } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";

const folder = join(dirname(dirname(dirname(fileURLToPath(import.meta.url)))), "examples");

/** The process that is in charge as this generation, from the log. */
async function inCharge(program: Program, generation: number): Promise<number> {
  return await pidOnLine(
    program,
    new RegExp(`^reload-self: process \\d+: in charge as generation ${generation}:`),
  );
}

async function reload(program: Program, pid: number, generation: number): Promise<number> {
  program.signal(pid);
  const next = await inCharge(program, generation);
  await until("the old process to be gone", () => !isAlive(pid));
  return next;
}

const first = (program: Program) => program.process.pid as number;
const numbersOf = (program: Program, match: RegExp) =>
  program.lines.map((line) => match.exec(line)?.[1]).filter((text) => text !== undefined).map(
    Number,
  );
const get = async (port: number, path = "/") =>
  await until(
    "an answer",
    () =>
      fetch(`http://127.0.0.1:${port}${path}`).then((response) => response.text(), () => undefined),
  );

for (const runtime of oneOfEachKind.filter(({ servers }) => servers.includes("adopted"))) {
  test(`${runtime.name}: native.ts answers with its pid, on the same port, in each generation`, async (t) => {
    const port = await freePort();
    const flags = runtime.flags.filter((flag) => flag !== "--unstable-net");
    const program = startProgram(t, runtime, {
      script: join(folder, "native.ts"),
      flags,
      env: { PORT: String(port) },
    });
    let pid = first(program);
    for (let generation = 1; generation <= 2; generation++) {
      assert.equal(await get(port), `pid ${pid}\n`);
      pid = await reload(program, pid, generation);
    }
    assert.equal(await get(port), `pid ${pid}\n`);
    if (runtime.kind === "bun") assert.equal(await get(port, "/about"), "about\n");
    program.signal(pid, "SIGTERM");
    await until("it to be gone", () => program.pids().length === 0);
  });
}

for (const runtime of oneOfEachKind) {
  test(`${runtime.name}: chat.ts keeps its members across a reload`, async (t) => {
    const port = await freePort();
    const flags = runtime.flags.filter((flag) => flag !== "--unstable-net");
    const program = startProgram(t, runtime, {
      script: join(folder, "chat.ts"),
      flags,
      env: { PORT: String(port) },
    });
    await program.line(/^chat at/);
    const heard: string[] = [];
    const closed: string[] = [];
    const members = ["ada", "bob"].map((name) => {
      const socket = new WebSocket(`ws://127.0.0.1:${port}/${name}`);
      cleanUp(t, () => socket.close());
      socket.onmessage = ({ data }) => heard.push(`${name} hears ${data}`);
      socket.onclose = () => closed.push(name);
      return socket;
    });
    await until(
      "both to be in",
      () => members.every(({ readyState }) => readyState === WebSocket.OPEN),
    );
    const say = async (text: string) => {
      members[0]?.send(text);
      await until(
        "both to hear it",
        () => ["ada", "bob"].every((name) => heard.includes(`${name} hears ada: ${text}`)),
      );
    };
    await say("before");
    const [pid] = program.pids() as [number];
    program.signal(pid);
    await until(
      "the new process to say that it listens",
      () => numbersOf(program, /^chat at .* \(pid (\d+)\)/).length === 2,
    );
    await until("the old process to be gone", () => !isAlive(pid));
    await say("after");
    assert.deepEqual([heard.length, closed], [4, []]);
  });
}

for (const runtime of oneOfEachKind) {
  test(`${runtime.name}: sqlite.ts counts on across a reload, and closes its database`, async (t) => {
    const port = await freePort();
    const env = { PORT: String(port), DATABASE: join(temporaryFolder(t), "visits.db") };
    const program = startProgram(t, runtime, { script: join(folder, "sqlite.ts"), env });
    assert.equal(await get(port), "visit 1, generation 0\n");
    const pid = first(program);
    await reload(program, pid, 1);
    await program.line(new RegExp(`^pid ${pid}: the database is closed$`));
    assert.equal(await get(port), "visit 2, generation 1\n");
  });

  test(`${runtime.name}: queue_worker.ts does each job once`, async (t) => {
    const jobs = temporaryFolder(t);
    let next = 100;
    const addJobs = () => {
      for (const end = next + 10; next < end; next++) {
        const path = join(jobs, `${next}`);
        writeFileSync(path, `job ${next}`);
        renameSync(path, `${path}.job`); // Whole, or not there.
      }
    };
    const program = startProgram(t, runtime, {
      script: join(folder, "queue_worker.ts"),
      env: { JOBS: jobs },
    });
    let pid = first(program);
    for (let generation = 1; generation <= 2; generation++) {
      const before = numbersOf(program, /^done: job (\d+)$/).length;
      addJobs(); // The reload may take longer than all jobs that there were.
      await until("some jobs", () => numbersOf(program, /^done: job (\d+)$/).length > before + 2);
      pid = await reload(program, pid, generation);
    }
    addJobs();
    await until(
      "all jobs",
      () =>
        readdirSync(jobs).every((name) => name === "taken") &&
        readdirSync(join(jobs, "taken")).length === 0,
    );
    // A line may be read later than its file is gone.
    await until("all lines", () => numbersOf(program, /^done: job (\d+)$/).length >= 30);
    // The old process may finish its last job after the first one of the new process.
    const done = numbersOf(program, /^done: job (\d+)$/).sort((a, b) => a - b);
    assert.deepEqual(done, Array.from({ length: 30 }, (_, i) => 100 + i));
  });

  test(`${runtime.name}: cron.ts leaves no run out and does none twice`, async (t) => {
    const program = startProgram(t, runtime, {
      script: join(folder, "cron.ts"),
      env: { EVERY: "50" },
    });
    let pid = first(program);
    for (let generation = 1; generation <= 3; generation++) {
      const before = numbersOf(program, /^run (\d+)$/).length;
      await until("some runs", () => numbersOf(program, /^run (\d+)$/).length > before + 3);
      pid = await reload(program, pid, generation);
    }
    const runs = numbersOf(program, /^run (\d+)$/);
    await until("one more", () => numbersOf(program, /^run (\d+)$/).length > runs.length);
    assert.deepEqual(runs, runs.map((_, i) => runs[0] as number + i));
  });

  test(`${runtime.name}: https.ts has the renewed certificate after a reload`, async (t) => {
    const port = await freePort();
    const keys = temporaryFolder(t);
    const [key, cert] = [join(keys, "key.pem"), join(keys, "cert.pem")];
    writeFileSync(key, certificate.key);
    writeFileSync(cert, certificate.cert);
    const env = { PORT: String(port), KEY: key, CERT: cert, PID_FILE: join(keys, "pid") };
    const program = startProgram(t, runtime, { script: join(folder, "https.ts"), env });
    const serial = () =>
      until("the certificate", () =>
        new Promise<string | false>((resolve) => {
          const socket = connect({ port, host: "127.0.0.1", rejectUnauthorized: false }, () => {
            resolve(socket.getPeerCertificate().serialNumber);
            socket.destroy();
          });
          socket.on("error", () => resolve(false));
        }));
    const before = await serial();
    const subject = ["-subj", "/CN=localhost", "-days", "2"];
    execFileSync("openssl", [
      "req",
      "-x509",
      "-newkey",
      "ec",
      "-pkeyopt",
      "ec_paramgen_curve:prime256v1",
      "-nodes",
      "-keyout",
      key,
      "-out",
      cert,
      ...subject,
    ], { stdio: "pipe" });
    const pid = Number(readFileSync(env.PID_FILE, "utf8"));
    await reload(program, pid, 1);
    assert.notEqual(await serial(), before);
  });

  test(`${runtime.name}: metrics.ts counts the reloads that succeed and those that fail`, async (t) => {
    const port = await freePort();
    const copy = temporaryFolder(t);
    const script = join(copy, "metrics.ts");
    const source = readFileSync(join(folder, "metrics.ts"), "utf8").replace(
      "../mod.ts",
      `${dirname(folder)}/mod.ts`,
    );
    mkdirSync(copy, { recursive: true });
    writeFileSync(script, source);
    const program = startProgram(t, runtime, { script, env: { PORT: String(port) } });
    await get(port);
    const pid = first(program);
    writeFileSync(script, "throw new Error('a bad version')");
    program.signal(pid);
    await program.line(/reload failed/);
    writeFileSync(script, source);
    await reload(program, pid, 1);
    const text = await get(port, "/metrics");
    assert.match(text, /^reload_self_generation 1$/m);
    assert.match(text, /^reload_self_reloads_succeeded_total 1$/m);
    assert.match(text, /^reload_self_reloads_failed_total 1$/m);
    assert.match(text, /^reload_self_last_reload_seconds 0\.\d+$/m);
  });
}

/** The flags that the examples ask for. */
const flags = ({ kind, executable, flags }: Runtime) =>
  kind === "deno" ? ["run", "--quiet", "--allow-env", `--allow-run=${executable}`] : flags;

for (const runtime of runtimes) {
  test(`${runtime.name}: loop.ts`, async (t) => {
    const program = startProgram(t, runtime, {
      flags: flags(runtime),
      script: join(folder, "loop.ts"),
    });
    const pid = await pidOnLine(program, /generation 0: round 1$/);
    program.signal(pid);
    const next = await pidOnLine(program, /generation 1: round 1$/);
    await program.line(new RegExp(`^pid ${pid}, generation 0: replaced by pid ${next}$`));
    await until("the old process to be gone", () => !isAlive(pid));
    await program.line(/generation 1: round 2$/);
    program.signal(next, "SIGINT");
    await program.line(/generation 1: shut down$/);
    await until("the process to be gone", () => program.pids().length === 0);
  });

  test(`${runtime.name}: ten_tasks.ts`, async (t) => {
    const program = startProgram(t, runtime, {
      flags: flags(runtime),
      script: join(folder, "ten_tasks.ts"),
    });
    const pid = await pidOnLine(program, /generation 0: ten tasks are running$/);
    program.signal(pid);
    const next = await pidOnLine(program, /generation 1: ten tasks are running$/);
    await program.line(/generation 0: task 1 finished$/); // The new process is in charge.
    program.signal(next, "SIGTERM");
    for (const generation of [0, 1]) {
      await program.line(new RegExp(`generation ${generation}: all have finished$`));
      for (let task = 1; task <= 11; task++) {
        assert.equal(
          program.lines.filter((line) =>
            line.endsWith(`generation ${generation}: task ${task} finished`)
          ).length,
          1,
        );
      }
    }
    await until("all to be gone", () => program.pids().length === 0);
  });
}
