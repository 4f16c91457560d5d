/** From the signal to the first answer of the new process, next to a bare start of the same program. */
import { spawn } from "node:child_process";
import { openConnection } from "../tests/load/http1.ts";
import { startServer } from "../tests/load/rows.ts";
import type { TestScope } from "../tests/support/clean_up.ts";
import { fixture } from "../tests/support/program.ts";
import type { Runtime } from "../tests/support/runtimes.ts";
import { isAlive } from "../tests/support/proc.ts";
import { until } from "../tests/support/wait.ts";
import { median } from "../tests/support/median.ts";

/**
 * Milliseconds between two looks: more of them would take the processor from what is measured, and with fewer the answer of a new process
 * is seen later than it could be had. That of a bare start is not: the kernel keeps its first connection until it can answer.
 */
const LOOK = 1;
const GET = "GET /1/10/1/0 HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n";

/** The generation that answers, or `undefined` where nobody does. */
async function ask(port: number): Promise<number | undefined> {
  try {
    const connection = await openConnection({ port });
    connection.write(GET);
    const answer = await connection.answer();
    connection.close();
    return Number(answer.headers.get("x-generation"));
  } catch {
    return undefined;
  }
}

/**
 * Milliseconds, the medians of so many rounds that take turns, and the median of each round's ratio: what slows the machine down for a
 * while slows both.
 */
export async function latency(
  t: TestScope,
  runtime: Runtime,
  kind: "http" | "native" | "express",
  rounds: number,
): Promise<{ bare: number; reload: number; ratio: number }> {
  const options = { settle: 20 };
  const server = await startServer(t, runtime, { kind, options });
  const port = server.target.port as number;
  const bare: number[] = [];
  const reload: number[] = [];
  let current = server.first;
  const free = await startServer(t, runtime, { kind, options });
  const freePort = free.target.port as number;
  process.kill(free.first.pid, "SIGKILL");
  await until("a free port", () => !isAlive(free.first.pid));

  /** Asks both ports in turns, for the running server answers in both cases, and shares the machine with the one that starts. */
  async function firstAnswer(wanted: number, generation: number): Promise<void> {
    for (;;) {
      const [running, started] = [await ask(port), await ask(freePort)];
      if ((wanted === port ? running : started) === generation) return;
      await new Promise((resolve) => setTimeout(resolve, LOOK));
    }
  }

  for (let i = 0; i < rounds; i++) {
    let begun = performance.now();
    server.program.signal(current);
    await firstAnswer(port, current.generation + 1);
    reload.push(performance.now() - begun);
    const old = current;
    current = await server.program.report("in-charge", { generation: old.generation + 1 });
    await until(`${old.pid} to be gone`, () => !isAlive(old.pid));

    begun = performance.now();
    const child = spawn(runtime.executable, [...runtime.flags, fixture("server.ts")], {
      env: {
        ...process.env,
        BEHAVIOUR: server.program.behaviourFile,
        SERVER: JSON.stringify({ kind, ports: [freePort], options }),
      },
      stdio: "ignore",
    });
    await firstAnswer(freePort, 0);
    bare.push(performance.now() - begun);
    child.kill("SIGKILL");
    await new Promise((resolve) => child.once("exit", resolve));
  }
  return { bare: median(bare), reload: median(reload), ratio: median(reload.map((time, i) => time / (bare[i] as number))) };
}
