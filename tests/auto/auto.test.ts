/** Programs below the preload: what they notice of it, and how they end. */
import assert from "node:assert/strict";
import { get } from "node:http";
import { dirname, join } from "node:path";
import { test, type TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import { freePort } from "../support/port.ts";
import { isAlive } from "../support/proc.ts";
import {
  fixture,
  type Program,
  type Report,
  startProgram,
  temporaryFolder,
} from "../support/program.ts";
import { type Runtime, runtimes } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";

const auto = join(dirname(fileURLToPath(import.meta.url)), "../../auto.ts");
const flag = { node: "--import", bun: "--preload", deno: "--preload" } as const;

interface Started {
  readonly program: Program;
  readonly port: number;
  readonly first: Report;
}

/** Starts the fixture. */
async function start(
  t: TestContext,
  runtime: Runtime,
  mode: string,
  env: Record<string, string> = {},
): Promise<Started> {
  const port = await freePort();
  const program = startProgram(t, runtime, {
    flags: [...runtime.flags, flag[runtime.kind], auto],
    script: fixture("auto.mjs"),
    env: { MODE: mode, PORT: String(port), RELOAD_SELF_PROBATION: "100ms", ...env },
  });
  return { program, port, first: await program.report("listening") };
}

async function ask(port: number, path = "/"): Promise<number> {
  return await new Promise((resolve, reject) => {
    get({ port, path, host: "127.0.0.1", agent: false }, (response) => {
      let text = "";
      response.on("data", (chunk) => text += chunk).on(
        "end",
        () => resolve(Number(/\d+/.exec(text)?.[0])),
      );
    }).on("error", reject);
  });
}

/** How the first process has ended. */
async function exitCode({ process, lines }: Program): Promise<number | NodeJS.Signals> {
  return await until(
    "the program to end",
    () => process.exitCode !== null ? `${process.exitCode}` : process.signalCode ?? undefined,
  )
    .then(
      (how) => /^\d/.test(how) ? Number(how) : how as NodeJS.Signals,
      (error) => assert.fail(`${error.message}\n${lines.join("\n")}`),
    );
}

/** Reloads it, and waits until another process answers and the old one is gone. */
async function reload({ program, port }: Started, pid: number): Promise<number> {
  program.signal(pid);
  const next = await until("another process to answer", async () => {
    const answering = await ask(port);
    return answering !== pid && answering;
  }).catch((error) => assert.fail(`${error.message}\n${program.lines.join("\n")}`));
  await until("the old process to be gone", () => !isAlive(pid));
  return next;
}

for (const runtime of runtimes) {
  const title = (text: string) => `${runtime.name}: auto: ${text}`;

  test(
    title("the events of a server are those without it, once, also in a new process"),
    async (t) => {
      const started = await start(t, runtime, "");
      const { program, port, first } = started;
      const next = await reload(started, first.pid);
      const last = await reload(started, next);
      for (const pid of [first.pid, next, last]) {
        const types = program.reports.filter((report) => report.pid === pid).map(({ type }) => type)
          .sort();
        assert.deepEqual(types, ["callback", "called", "listening"]);
        const { address, isListening } = await program.report("listening", { pid });
        assert.deepEqual([address.port, address.address, isListening], [port, "127.0.0.1", true]);
        assert.equal((await program.report("called", { pid })).isServer, true);
      }
    },
  );

  test(
    title("a reload that fails leaves the server as it was, and it hears nothing of it"),
    async (t) => {
      const started = await start(t, runtime, "", {
        RELOAD_SELF_READY_TIMEOUT: "20s",
        RELOAD_SELF_PROBATION: "5s",
      });
      const { program, port, first } = started;
      program.signal(first.pid);
      const next = await program.report("listening", ({ pid }) => pid !== first.pid);
      await until("the new process to answer", async () => await ask(port) === next.pid);
      program.signal(next.pid, "SIGKILL");
      await until(
        "the old process to answer",
        async () => await ask(port).catch(() => 0) === first.pid,
      );
      assert.equal(
        program.reports.filter(({ pid, type }) => pid === first.pid && type === "listening").length,
        1,
      );
      await program.line(/reload failed/);
    },
  );

  test(title("a port that is taken is an error event, or the end, as without it"), async (t) => {
    const started = await start(t, runtime, "second,caught");
    assert.equal((await started.program.report("error")).code, "EADDRINUSE");
    assert.equal(await ask(started.port), started.first.pid);
    const { program } = await start(t, runtime, "second");
    assert.equal(await exitCode(program), 1);
  });

  test(
    title(
      "without handlers a process that was replaced ends, whatever keeps it, and a signal ends the last",
    ),
    async (t) => {
      const started = await start(t, runtime, "timer");
      const slow = ask(started.port, "/500");
      const next = await reload(started, started.first.pid);
      assert.equal(await slow, started.first.pid, "the request under way was answered");
      assert.equal(await exitCode(started.program), 0);
      started.program.signal(next, "SIGTERM");
      await until("all to be gone", () => started.program.pids().length === 0);
    },
  );

  test(
    title("the program's own shutdown comes after the drain, with the arguments of a signal"),
    async (t) => {
      const started = await start(t, runtime, "timer,SIGTERM,exit3");
      const { program, first } = started;
      const slow = ask(started.port, "/500");
      const next = await reload(started, first.pid);
      assert.equal(await slow, first.pid);
      const handler = await program.report("handler", { pid: first.pid });
      assert.deepEqual([handler.signal, handler.args, handler.count], [
        "SIGTERM",
        ["SIGTERM", 15],
        1,
      ]);
      assert.equal((await program.report("closed", { pid: first.pid })).error, null);
      assert.equal(await exitCode(program), 3);

      // And so does that which a signal from outside asks for.
      const last = ask(started.port, "/500");
      await new Promise((resolve) => setTimeout(resolve, 100)); // For the request to come.
      program.signal(next, "SIGTERM");
      assert.equal(await last, next);
      assert.equal((await program.report("closed", { pid: next })).error, null);
      await until("all to be gone", () => program.pids().length === 0);
    },
  );

  test(
    title(
      "SIGINT's handlers are taken where there are none of SIGTERM; a signal to itself does not reach the new process",
    ),
    async (t) => {
      const started = await start(t, runtime, "timer,SIGINT,again");
      const next = await reload(started, started.first.pid);
      assert.equal(
        (await started.program.report("handler", { pid: started.first.pid })).signal,
        "SIGINT",
      );
      await exitCode(started.program);
      assert.equal(await ask(started.port), next);
    },
  );

  test(title("a shutdown that does not end is ended, and what kept it is said"), async (t) => {
    const started = await start(t, runtime, "timer,SIGTERM,stay", {
      RELOAD_SELF_DRAIN_TIMEOUT: "1s",
    });
    await reload(started, started.first.pid);
    const line = await started.program.line(
      /its handlers of SIGTERM have not ended it in time, and it leaves/,
    );
    if (runtime.kind === "node") assert.match(line, /Timeout/);
  });

  test(title("handlers of SIGHUP are not called, and that is said once"), async (t) => {
    const started = await start(t, runtime, "SIGHUP");
    await reload(started, started.first.pid);
    await started.program.line(
      /SIGHUP reloads this program: its own handler of SIGHUP is not called/,
    );
    assert.ok(!started.program.reports.some(({ type }) => type === "handler"));
  });

  test(
    title("a server that starts another, and one that asks whether its port is free"),
    async (t) => {
      const port2 = await freePort();
      const started = await start(t, runtime, "inside", { PORT2: String(port2) });
      const next = await reload(started, started.first.pid);
      assert.equal(await ask(port2), next);
      const probing = await start(t, runtime, "probe");
      await reload(probing, await reload(probing, probing.first.pid));
    },
  );

  test(
    title("a unix socket is handed over; a port that the kernel has chosen is the process's own"),
    async (t) => {
      const path = join(temporaryFolder(t), "server.sock");
      const { program, first } = await start(t, runtime, "path,timer", { SOCKET: path });
      const askPath = () =>
        new Promise<number>((resolve, reject) => {
          get({ socketPath: path, path: "/", agent: false }, (response) => {
            response.on("data", (chunk) => resolve(Number(/\d+/.exec(String(chunk))?.[0])));
          }).on("error", reject);
        });
      program.signal(first.pid);
      await until("another process to answer", async () => await askPath() !== first.pid);
      await until("the old process to be gone", () => !isAlive(first.pid));
      await askPath();

      const own = await start(t, runtime, "zero,timer");
      own.program.signal(own.first.pid);
      assert.equal(await exitCode(own.program), "SIGHUP", "it does what it does without a server");
    },
  );
}
