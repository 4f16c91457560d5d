/**
 * The machine, for the command line. It uses the modules of Node on all three runtimes: unlike a
 * server, it may load what it wants, and Deno's own functions cannot open a file without following
 * links or waiting for a FIFO.
 */
import { type ChildProcess, spawn } from "node:child_process";
import * as fs from "node:fs";
import process from "node:process";
import type { ServiceAdapter, Supervisor } from "../../src/core/service_adapter.ts";
import { supervision } from "../../src/protocol/handshake.ts";
import { basicService, workingDirectory } from "../shared/node_basic_service.ts";
import { nodeService } from "../shared/node_service.ts";
import { readSmallFile as read, type SmallFile } from "../shared/node_files.ts";
import { guarded } from "../shared/reparent.ts";
import type { DenoNamespace } from "../deno/namespace.ts";
import { closeOnExec } from "../deno/sockets.ts";
import { openFirst } from "../shared/libc.ts";
import { acceptSockets as acceptInherited } from "../shared/socket_channel.ts";

export { readProc as readProcOf } from "../shared/node_basic_service.ts";
export { parseEnviron } from "../shared/environment.ts";
export { type KeptSocket, listenForOthers, type SocketRequest } from "./listen_for_others.ts";
export { type SmallFile } from "../shared/node_files.ts";
export { folderCandidates } from "../shared/runtime_dir.ts";

const env = { ...process.env };
/** Files, processes, the folder for status files. */
export const service: ServiceAdapter = nodeService(
  process,
  basicService(process, env, (handler) => void process.on("exit", handler)),
  { cwd: workingDirectory(process), loaded: env },
  undefined,
);

/**
 * Reads an ordinary file. Throws for a link, for a file of another kind, and for a file that is too
 * large.
 */
export function readSmallFile(path: string): SmallFile {
  return read(fs, path);
}

/**
 * Accepts connections on a unix socket, of which no program that is started gets a copy: it would
 * be one of its own sockets, and accept connections that nobody serves. The returned server must be
 * closed.
 */
export async function acceptSockets(
  ...[path, accept]: Parameters<typeof acceptInherited>
): ReturnType<typeof acceptInherited> {
  const server = await acceptInherited(path, accept);
  const { Deno } = globalThis as unknown as { Deno?: DenoNamespace };
  // Deno 2.9 makes it without close-on-exec; see ../deno/sockets.ts.
  const { fd } = (server as { _handle?: { fd?: number } | null })._handle ?? {};
  if (Deno !== undefined && fd !== undefined && fd >= 0) closeOnExec(Deno, fd);
  return server;
}

const SHELL = "/bin/sh";
/**
 * Names the program as the owner of the sockets that it is started with: the pid stays the same;
 * sd_listen_fds(3).
 */
const WITH_SOCKETS = 'export LISTEN_PID=$$; exec "$0" "$@"';

/**
 * Starts a program below a guard, so that `reload-self run` learns how it ends. It leads a process
 * group.
 *
 * @param sockets Descriptors that it is started with, in systemd's way.
 */
export function startGuarded(
  command: readonly string[],
  supervisor: Supervisor,
  env: Readonly<Record<string, string | undefined>>,
  sockets: readonly number[],
): ChildProcess {
  const [file = "", ...args] = sockets.length === 0
    ? command
    : [SHELL, "-c", WITH_SOCKETS, ...command];
  const guard = guarded({ file, args }, SHELL);
  return spawn(guard.file, guard.args, {
    detached: true,
    stdio: ["ignore", "inherit", "inherit", ...sockets],
    env: {
      ...process.env,
      ...supervision(supervisor),
      ...(sockets.length > 0 && { LISTEN_FDS: String(sockets.length), LISTEN_FDNAMES: undefined }),
      ...env,
    },
  });
}

/** Does not return when it works; otherwise returns the reason. The environment stays. */
export function replaceProcess(file: string, args: readonly string[]): string {
  const { execve } = process as {
    execve?: (file: string, args: readonly string[], env: NodeJS.ProcessEnv) => void;
  };
  const { Deno } = globalThis as unknown as { Deno?: DenoNamespace };
  try {
    if (Deno === undefined) {
      if (execve === undefined) return "Node has no process.execve before 22.15";
      execve.call(process, file, args, process.env);
    } else {
      const library = openFirst((name) =>
        Deno.dlopen(name, { execv: { parameters: ["buffer", "buffer"], result: "i32" } })
      );
      const encode = (text: string) => new TextEncoder().encode(`${text}\0`);
      const strings = args.map(encode);
      const pointers = new BigUint64Array([
        ...strings.map((text) => Deno.UnsafePointer.value(Deno.UnsafePointer.of(text))),
        0n,
      ]);
      const { execv } = (library?.symbols ?? {}) as unknown as {
        execv?: (file: Uint8Array, args: BigUint64Array) => number;
      };
      execv?.(encode(file), pointers);
    }
    return "the C library refused it";
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}
