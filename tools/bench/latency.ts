/**
 * From the signal to the first answer of the new process, next to a bare start of the same server
 * without the library.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { transformSync } from "esbuild";
import { openConnection } from "../../tests/load/http1.ts";
import { cleanUp, type TestScope } from "../../tests/support/clean_up.ts";
import { median } from "../../tests/support/median.ts";
import { freePort } from "../../tests/support/port.ts";
import { isAlive } from "../../tests/support/proc.ts";
import { root } from "../../tests/support/package.ts";
import type { Runtime } from "../../tests/support/runtimes.ts";
import { until } from "../../tests/support/wait.ts";

/**
 * Milliseconds between two looks: more of them would take the processor from what is measured, and
 * with fewer the answer of a new process is seen later than it could be had. That of a bare start
 * is not: the kernel keeps its first connection until it can answer.
 */
const LOOK = 1;
/** Milliseconds after which no answer is expected any more. */
const PATIENCE = 60_000;
const GET = "GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n";

/** What stands for the library in a server without it. */
const WITHOUT = `export const listen = () => ({
  bind: (server, options) => new Promise((resolve) => server.listen(options, resolve)),
  adopt: (serve) => serve,
});
`;

/**
 * Writes the programs into a project in which the package is installed, each with the library and
 * without it.
 */
export function writePrograms(project: string): void {
  writeFileSync(join(project, "without.mjs"), WITHOUT);
  symlinkSync(join(root, "node_modules/express"), join(project, "node_modules/express"));
  for (const name of ["http", "native", "express"]) {
    const { code } = transformSync(
      readFileSync(join(root, `tools/bench/programs/${name}.ts`), "utf8"),
      { loader: "ts" },
    );
    for (const [kind, library] of [["with", "@js0/reload-self"], ["bare", "./without.mjs"]]) {
      writeFileSync(
        join(project, `${name}.${kind}.mjs`),
        code.replace("../../../mod.ts", library as string),
      );
    }
  }
}

/** The process that answers, or `undefined` where nobody does. */
async function ask(port: number): Promise<number | undefined> {
  try {
    const connection = await openConnection({ port });
    connection.write(GET);
    const { body } = await connection.answer();
    connection.close();
    return Number(body);
  } catch {
    return undefined;
  }
}

/**
 * Milliseconds, the medians of so many rounds that take turns, and the median of each round's
 * ratio: what slows the machine down for a while slows both.
 *
 * @param project Where {@linkcode writePrograms} has written the programs.
 * @param program The name of one in `programs`.
 */
export async function latency(
  t: TestScope,
  runtime: Runtime,
  project: string,
  program: string,
  rounds: number,
): Promise<{ bare: number; reload: number; ratio: number }> {
  const [port, other] = [await freePort(), await freePort()];
  const start = (kind: "with" | "bare", port: number): ChildProcess => {
    const script = join(project, `${program}.${kind}.mjs`);
    const child = spawn(runtime.executable, [...runtime.flags, script, String(port)], {
      cwd: project,
      stdio: ["ignore", "ignore", "inherit"],
    });
    cleanUp(t, () => child.kill("SIGKILL"));
    return child;
  };

  /**
   * Asks both ports in turns, for the running server answers in both cases, and shares the machine
   * with the one that starts.
   */
  async function firstAnswer(wanted: number, before?: number): Promise<number> {
    for (const deadline = performance.now() + PATIENCE; performance.now() < deadline;) {
      const [running, started] = [await ask(port), await ask(other)];
      const pid = wanted === port ? running : started;
      if (pid !== undefined && pid !== before) return pid;
      await new Promise((resolve) => setTimeout(resolve, LOOK));
    }
    throw new Error(`${program}: no answer of a new process`);
  }

  start("with", port);
  let current = await firstAnswer(port);
  cleanUp(t, () => void process.kill(current, "SIGKILL"));
  const bare: number[] = [];
  const reload: number[] = [];
  for (let i = 0; i < rounds; i++) {
    const old = current;
    let begun = performance.now();
    process.kill(old, "SIGHUP");
    current = await firstAnswer(port, old);
    reload.push(performance.now() - begun);
    await until(`${old} to be gone`, () => !isAlive(old));

    begun = performance.now();
    const child = start("bare", other);
    await firstAnswer(other);
    bare.push(performance.now() - begun);
    child.kill("SIGKILL");
    await new Promise((resolve) => child.once("exit", resolve));
  }
  return {
    bare: median(bare),
    reload: median(reload),
    ratio: median(reload.map((time, i) => time / (bare[i] as number))),
  };
}
