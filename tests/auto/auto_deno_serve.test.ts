/** `deno serve` with a module that imports the preload: `--preload` is not looked at. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { type Clients, startClients } from "../frameworks/load.ts";
import { cleanUp } from "../support/clean_up.ts";
import { root } from "../support/package.ts";
import { freePort } from "../support/port.ts";
import { isAlive } from "../support/proc.ts";
import { type Program, startProgram, temporaryFolder } from "../support/program.ts";
import { runtimes } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";

/** How many threads each generation has. */
const THREADS = [3, 5, 2, 3];

interface Served {
  /** A version that finds this file dies on probation. */
  readonly fatal: string;
  readonly port: number;
  readonly program: Program;
}

async function answerFrom(
  port: number,
): Promise<{ readonly pid: number; readonly thread: string }> {
  const response = await fetch(`http://127.0.0.1:${port}/`, { headers: { connection: "close" } });
  const [pid, thread = ""] = (await response.text()).slice("pid ".length).split(" ");
  return { pid: Number(pid), thread };
}

/** Resolves when so many threads of a process have answered. */
async function answered(port: number, pid: number, count: number): Promise<void> {
  const threads = new Set<string>();
  await until(`${count} threads of ${pid} to answer`, async () => {
    const answer = await answerFrom(port);
    assert.equal(answer.pid, pid);
    return threads.add(answer.thread).size >= count;
  });
}

/** Resolves with the pid of another process, when it answers and the old one has gone. */
async function replaced(clients: Clients, old: number): Promise<number> {
  const others = () => [...clients.answers.keys()].filter((pid) => pid > 0 && pid !== old);
  const pid = await until("another process to answer", () => others().find(isAlive));
  await until("the old process to be gone", () => !isAlive(old));
  return pid;
}

/** Nothing was lost, and a signal ends all that is left. */
async function endWithoutLoss(program: Program, clients: Clients, pid: number): Promise<void> {
  await clients.stop();
  assert.deepEqual([...clients.errors], [], program.lines.join("\n"));
  program.signal(pid, "SIGTERM");
  await until("all to be gone", () => program.pids().length === 0);
}

for (const runtime of runtimes.filter(({ kind }) => kind === "deno")) {
  const serve = async (t: TestContext, flags: readonly string[]): Promise<Served> => {
    const folder = temporaryFolder(t);
    const [module, fatal] = [join(folder, "app.ts"), join(folder, "fatal")];
    writeFileSync(
      module,
      `import { token } from ${JSON.stringify(join(root, "auto.ts"))};
       const thread = crypto.randomUUID();
       if (token.canReload) {
         const threads = ${JSON.stringify(THREADS)}[token.generation + 1];
         Deno.env.set("DENO_JOBS", String(threads));
         const fatal = new URL("fatal", import.meta.url);
         token.inheritedState.then(() => Deno.stat(fatal)).then(() => Deno.exit(3), () => {});
       }
       export default { fetch: () => new Response(\`pid \${Deno.pid} \${thread}\`) };`,
    );
    const port = await freePort();
    const where = ["--host=127.0.0.1", `--port=${port}`];
    const program = startProgram(t, runtime, {
      command: [runtime.executable, "serve", "-A", ...flags, ...where, module],
      env: {
        DENO_JOBS: String(THREADS[0]),
        RELOAD_SELF_PROBATION: "300ms",
        RELOAD_SELF_IDLE_GRACE: "500ms",
      },
    });
    await until("it to answer", () => answerFrom(port).then(() => true, () => false));
    return { fatal, port, program };
  };

  test(`${runtime.name}: auto: deno serve is reloaded, and loses nothing`, async (t) => {
    const { port, program } = await serve(t, []);
    const clients = startClients(port, 2);
    cleanUp(t, () => clients.stop());
    let pid = program.process.pid as number;
    for (let i = 0; i < 3; i++) {
      await until("the clients to be answered", () => (clients.answers.get(pid) ?? 0) > 20);
      program.signal(pid);
      pid = await replaced(clients, pid);
    }
    await endWithoutLoss(program, clients, pid);
  });

  test(`${runtime.name}: auto: deno serve --parallel: more threads, or fewer, accept from the same socket`, async (t) => {
    const { port, program } = await serve(t, ["--parallel"]);
    const clients = startClients(port, 4);
    cleanUp(t, () => clients.stop());
    let pid = program.process.pid as number;
    for (const [generation, count] of THREADS.entries()) {
      await answered(port, pid, count);
      await until("the clients to be answered", () => (clients.answers.get(pid) ?? 0) > 20);
      if (generation === THREADS.length - 1) break;
      program.signal(pid);
      pid = await replaced(clients, pid);
    }
    await endWithoutLoss(program, clients, pid);
  });

  test(`${runtime.name}: auto: deno serve --parallel: all threads accept again after a version that dies`, async (t) => {
    const { fatal, port, program } = await serve(t, ["--parallel"]);
    const pid = program.process.pid as number;
    await answered(port, pid, THREADS[0] as number);
    writeFileSync(fatal, "");
    program.signal(pid);
    await program.line(/reload failed: .*exited with code 3 .* after it was in charge/);
    await answered(port, pid, THREADS[0] as number);
  });
}
