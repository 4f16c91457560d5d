import type * as ChildProcessModule from "node:child_process";
import type { Adapter } from "../../core/adapter.ts";
import { ReloadError } from "../../core/error.ts";
import type { Listener, ListenSource, SocketAdapter } from "../../core/socket_adapter.ts";
import type { BindableServer } from "../../core/token.ts";
import { createActivation, readUntil } from "../activation.ts";
import { takeHandshake } from "../environment_handshake.ts";
import { attempt } from "../attempt.ts";
import { clock } from "../clock.ts";
import {
  asCommandLine,
  type CommandLine,
  type Files,
  isGenuine,
  parseCmdline,
  rebuildCommandLine,
  typedDirectory,
  typedExecutable,
} from "../command_line.ts";
import { type Environment, parseEnviron } from "../environment.ts";
import { nodeFiles } from "./files.ts";
import { inheritedChannel, type NodeProcess, spawnWithNode, startSuccessor } from "./process.ts";
import { findShell, isAlive, nodeService } from "./service.ts";
import { heldByHandle, isServed, listenDirectly } from "./sockets.ts";
import { platformSignals } from "../signals.ts";
import { closeWhenQuiet } from "../../windows/accept_ahead.ts";

/** The part of the socket adapter in which Bun differs. */
export interface NodeSockets {
  listen: SocketAdapter["listen"];
  libc?: SocketAdapter["libc"];
  serve?: SocketAdapter["serve"];
}

async function listenOnWindows(server: BindableServer, source: ListenSource): Promise<Listener> {
  return closeWhenQuiet(await listenDirectly(server, source), server, "handle" in source);
}

/** How this program was started. */
interface Origin {
  command: CommandLine;
  cwd: string;
  started: Environment | undefined;
}

/**
 * The adapter for Node, which Bun's builds on. It needs no permission; under Node's permission model (`--permission`) a reload
 * needs `--allow-child-process`, and `--allow-fs-read=/` to start from a flipped symbolic link.
 *
 * @param isMainThread A worker thread cannot be reloaded.
 */
export function createNodeAdapter(
  process: NodeProcess,
  runtime: string,
  isMainThread: boolean,
  { listen, libc, serve }: NodeSockets = { listen: process.platform === "win32" ? listenOnWindows : listenDirectly },
): Adapter {
  const { env } = process;
  const { generation, supervisor } = isMainThread
    ? takeHandshake({ get: (name) => env[name], delete: (name) => delete env[name] }, {
      parent: process.ppid,
      isAlive: (pid) => isAlive(process, pid),
    })
    : {};
  const loaded = { ...env };
  // At once, because a title overwrites the command line and a deploy flips links.
  const origin = isMainThread ? findOrigin() : undefined;

  function findOrigin(): Origin {
    const fs = process.getBuiltinModule("node:fs");
    const files: Files = { realPath: (path) => attempt(() => fs.realpathSync(path)) };
    // Windows has no /proc, but a user may have made a folder of that name.
    const read = (path: string) => process.platform === "win32" ? undefined : attempt(() => fs.readFileSync(path, "utf8"));

    const cwd = process.cwd();
    const typed = typedDirectory(loaded.PWD, cwd, files);
    const environ = read("/proc/self/environ");
    const fields = parseCmdline(read("/proc/self/cmdline") ?? "");
    const { argv0, execPath } = process;
    const file = typedExecutable(argv0, execPath, typed, loaded.PATH, files);
    const command = isGenuine(fields, argv0)
      ? { file, argv0, args: fields.slice(1) }
      : { ...rebuildCommandLine(process, cwd, typed), file };
    return { command, cwd: typed, started: environ === undefined ? undefined : parseEnviron(environ) };
  }

  let loading: Promise<typeof ChildProcessModule> | undefined;
  const childProcess = () => loading ??= import("node:child_process");

  const activation = createActivation(env, process.pid, generation !== undefined, listen, () => {
    const fs = process.getBuiltinModule("node:fs");
    return {
      link: (path) => fs.readlinkSync(path),
      text(path, enough) {
        const fd = fs.openSync(path, "r");
        try {
          return readUntil((buffer) => fs.readSync(fd, buffer, 0, buffer.length, null), enough);
        } finally {
          fs.closeSync(fd);
        }
      },
    };
  });

  return {
    ...clock,
    ...platformSignals(process.platform),
    runtime,
    pid: process.pid,
    canReload: isMainThread,
    onSignal(signal, handler) {
      process.on(signal, handler);
      return () => process.off(signal, handler);
    },
    predecessor: () => generation === undefined ? undefined : inheritedChannel(process, generation, true),
    warmUp: () => void childProcess().catch(() => {}), // A reload will report the error.
    async start(request) {
      const module = await childProcess();
      request.signal.throwIfAborted();
      if (origin === undefined) throw new ReloadError("unsupported", "a worker thread cannot be reloaded");
      const { command: same, cwd, started } = origin;
      const what = request.command === undefined ? same : asCommandLine(request.command);
      const history = { started, loaded, current: process.env };
      const sockets = activation.inherit();
      return await startSuccessor({
        pid: process.pid,
        spawn: spawnWithNode(module, sockets, true),
        kill: (pid, signal) => process.kill(pid, signal),
        what,
        cwd,
        history,
        request,
        sockets: sockets.length,
        shell: request.how === "plain" ? undefined : findShell(process),
      });
    },
    exit: (code) => process.exit(code),
    service: isMainThread ? nodeService(process, loaded, supervisor) : undefined,
    sockets: {
      activated: activation.activated,
      listen: activation.listen,
      files: () => nodeFiles(process),
      isServed,
      held: runtime === "Node" && process.platform !== "win32" ? heldByHandle : undefined,
      cutsAnswers: false,
      serve,
      descriptors: () => attempt(() => process.getBuiltinModule("node:fs").readdirSync("/proc/self/fd").map(Number)),
      libc: process.platform === "linux" ? libc : undefined,
    },
  };
}
