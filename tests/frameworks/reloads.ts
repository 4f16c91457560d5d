/** A program below the preload: three reloads under load, no error, and all that a user expects of its processes. */
import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import { openConnection } from "../load/http1.ts";
import { cleanUp } from "../support/clean_up.ts";
import { freePort } from "../support/port.ts";
import { isAlive } from "../support/proc.ts";
import { type Program, startProgram } from "../support/program.ts";
import type { Runtime } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";
import { startClients } from "./load.ts";

/** How often each program is reloaded. */
export const RELOADS = 3;
const CLIENTS = 6;

/** What is started. */
export interface App {
  readonly name: string;
  readonly runtime: Runtime;
  readonly command: readonly string[];
  readonly path?: string;
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Whether the process that was started is signalled, a parent of all, instead of the one that answers. */
  readonly isParent?: boolean;
}

/** Reloads a program under load, and ends it. */
export async function reloadsUnderLoad(
  t: TestContext,
  cwd: string,
  { runtime, command, path, env, isParent }: App,
): Promise<void> {
  const port = await freePort();
  const program = startProgram(t, runtime, {
    command,
    cwd,
    env: { PORT: String(port), RELOAD_SELF_PROBATION: "300ms", RELOAD_SELF_LOG: "info", ...env },
  });
  await listens(program, port);
  const clients = startClients(port, CLIENTS, path);
  cleanUp(t, () => clients.stop());
  const answering = async (known: number[]) =>
    await until(
      "another process to answer",
      () => [...clients.answers.keys()].find((pid) => !known.includes(pid)),
    )
      .catch((error) => assert.fail(`${error.message}\n${program.lines.slice(-40).join("\n")}`));
  const pids = [await answering([])];
  const signalled = (pid: number) => isParent ? program.process.pid as number : pid;
  for (let i = 0; i < RELOADS; i++) {
    const current = pids.at(-1) as number;
    program.signal(signalled(current));
    pids.push(await answering(pids));
    await until("the old process to be gone", () => !isAlive(current));
  }
  await clients.stop();
  assert.deepEqual(Object.fromEntries(clients.errors), {}, program.lines.slice(-40).join("\n"));
  const count = [...clients.answers.values()].reduce((sum, number) => sum + number, 0);
  t.diagnostic(`${count} answers of ${clients.answers.size} processes`);
  program.signal(signalled(pids.at(-1) as number), "SIGTERM");
  await until("all processes to be gone", () => program.pids().length === 0);
}

/** Waits until a program listens. */
export async function listens(program: Program, port: number): Promise<void> {
  await until(
    "the server",
    () => openConnection({ port }).then((connection) => (connection.close(), true), () => false),
  )
    .catch((error) => assert.fail(`${error.message}\n${program.lines.slice(-40).join("\n")}`));
}
