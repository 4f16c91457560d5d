/**
 * Where a server that is compared is started: a folder of its own, with the programs, the library
 * as it is published, and ws.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { cpSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { TestScope } from "../../../tests/support/clean_up.ts";
import { provide, root } from "../../../tests/support/package.ts";
import { freePort } from "../../../tests/support/port.ts";
import { allPids, hasVariable, killAtEnd } from "../../../tests/support/proc.ts";
import { temporaryFolder } from "../../../tests/support/program.ts";

/** Where a server is started. */
export interface Stage {
  readonly t: TestScope;
  readonly folder: string;
  /** Where it serves HTTP and WebSockets. */
  readonly port: number;
  /** Where it answers each line of raw TCP with its version. */
  readonly tcpPort: number;
  readonly env: NodeJS.ProcessEnv;
  /** What a process that starts from now on answers with. */
  setVersion(version: number): void;
  /** Starts a process that is ended with the stage. */
  spawn(file: string, args: readonly string[], env?: NodeJS.ProcessEnv): ChildProcess;
  /** The processes of the stage. */
  pids(): number[];
}

/** Makes one. The version is 0. */
export async function prepareStage(t: TestScope): Promise<Stage> {
  const folder = temporaryFolder(t);
  const [port, tcpPort] = [await freePort(), await freePort()];
  const mark = randomUUID();
  cpSync(join(root, "tools/bench/compare/apps"), folder, { recursive: true });
  await provide(folder, "ws");
  const file = join(folder, "version");
  const env = {
    ...process.env,
    PORT: String(port),
    TCP_PORT: String(tcpPort),
    VERSION_FILE: file,
    XDG_RUNTIME_DIR: folder,
    PM2_HOME: join(folder, ".pm2"),
    BENCH_STAGE: mark,
  };
  const setVersion = (version: number) => writeFileSync(file, String(version));
  setVersion(0);
  const pids = () => allPids().filter((pid) => hasVariable(pid, `BENCH_STAGE=${mark}`));
  killAtEnd(t, pids);
  return {
    t,
    folder,
    port,
    tcpPort,
    env,
    setVersion,
    pids,
    spawn: (file, args, more) =>
      spawn(file, args, {
        cwd: folder,
        env: { ...env, ...more },
        stdio: ["ignore", "pipe", "inherit"],
      }),
  };
}
