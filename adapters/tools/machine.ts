/**
 * The machine, for the command line. It uses the modules of Node on all three runtimes: unlike a server, it may load what it wants, and
 * Deno's own functions cannot open a file without following links or waiting for a FIFO.
 */
import { type ChildProcess, spawn } from "node:child_process";
import * as fs from "node:fs";
import process from "node:process";
import type { ServiceAdapter, Supervisor } from "../../core/service_adapter.ts";
import { supervision } from "../environment_handshake.ts";
import { basicService } from "../node/basic_service.ts";
import { nodeService } from "../node/service.ts";
import { readSmallFile as read, type SmallFile } from "../node/files.ts";
import { guarded } from "../reparent.ts";

export { parseEnviron } from "../environment.ts";
export { acceptSockets } from "../node/socket_channel.ts";
export { type SmallFile } from "../node/files.ts";
export { folderCandidates } from "../runtime_dir.ts";

const env = { ...process.env };
/** Files, processes, the folder for status files. */
export const service: ServiceAdapter = nodeService(
  process,
  basicService(process, env, (handler) => void process.on("exit", handler)),
  env,
  undefined,
);

/** Reads an ordinary file. Throws for a link, for a file of another kind, and for a file that is too large. */
export function readSmallFile(path: string): SmallFile {
  return read(fs, path);
}

/** Starts a program below a guard, so that `reload-self run` learns how it ends. It leads a process group. */
export function startGuarded(
  [file = "", ...args]: readonly string[],
  supervisor: Supervisor,
  env: Readonly<Record<string, string | undefined>>,
): ChildProcess {
  const guard = guarded({ file, args }, "/bin/sh");
  return spawn(guard.file, guard.args, {
    detached: true,
    stdio: ["ignore", "inherit", "inherit"],
    env: { ...process.env, ...supervision(supervisor), ...env },
  });
}
