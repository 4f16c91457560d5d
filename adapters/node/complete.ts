/** The part of Node's adapter that a start does not wait for. Bun's builds on it. */
import type { Adapter } from "../../src/core/adapter.ts";
import { ReloadError } from "../../src/core/error.ts";
import type { Listener, ListenSource, SocketAdapter } from "../../src/core/socket_adapter.ts";
import type { BindableServer } from "../../src/core/token.ts";
import { closeWhenQuiet } from "../../src/windows/accept_ahead.ts";
import { type Activation, createActivation } from "../shared/activation.ts";
import { attempt } from "../../src/core/attempt.ts";
import { clusterRole } from "../shared/cluster.ts";
import {
  joinDescriptors,
  offerDescriptors,
  type OfferedDescriptors,
} from "../shared/descriptors.ts";
import { descriptorVariables, nativeVariable } from "../../src/protocol/handshake.ts";
import {
  asCommandLine,
  type CommandLine,
  isGenuine,
  parseCmdline,
  rebuildCommandLine,
  typedDirectory,
  typedExecutable,
} from "../shared/command_line.ts";
import { type Environment, parseEnviron, type Snapshot } from "../shared/environment.ts";
import { ifUsable } from "../shared/libc.ts";
import { debuggerPorts, withFreeInspector } from "../shared/inspector.ts";
import {
  closeActiveServer,
  listActiveServers,
  ownSockets,
  type ProcFiles,
  readUntil,
} from "../shared/own_sockets.ts";
import type { NodeStart } from "./adapter.ts";
import type { NodeProcess } from "../shared/node_channel.ts";
import { markIdleOnNode, nodeConnections } from "../shared/node_connections.ts";
import { nodeDatagrams } from "../shared/node_datagrams.ts";
import { nodeFiles } from "../shared/node_files.ts";
import { lastNumber, spawnWithNode, startSuccessor } from "../shared/node_process.ts";
import { findShell, nodeService } from "../shared/node_service.ts";
import { isServed, listenDirectly, retainByHandle } from "../shared/node_sockets.ts";

/** How many connections may be on their way to another process at once. */
const WINDOW = 32;

/** The part of the socket adapter in which Bun differs. */
export interface NodeSockets {
  listen: SocketAdapter["listen"];
  libc?: SocketAdapter["libc"];
  datagrams?: SocketAdapter["datagrams"];
  connections?: SocketAdapter["connections"];
  http1?: SocketAdapter["http1"];
  stopListening: SocketAdapter["stopListening"];
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

function findOrigin(process: NodeProcess, { cwd, loaded, cmdline, environ }: Snapshot): Origin {
  const fs = process.getBuiltinModule("node:fs");
  const realPath = (path: string) => attempt(() => fs.realpathSync(path));
  const typed = typedDirectory(loaded, cwd, realPath);
  const fields = parseCmdline(cmdline ?? "");
  const { argv0, execPath } = process;
  const file = typedExecutable(argv0, execPath, typed, loaded.PATH, realPath);
  const command: CommandLine = isGenuine(fields, argv0)
    ? { file, argv0, args: fields.slice(1) }
    : { ...rebuildCommandLine(process, cwd, typed), file };
  command.args = withFreeInspector(command.args, Math.max(0, process.argv.length - 2));
  return {
    command,
    cwd: typed,
    started: environ === undefined ? undefined : parseEnviron(environ),
  };
}

function procFiles(process: NodeProcess): ProcFiles {
  const fs = process.getBuiltinModule("node:fs");
  return {
    link: (path) => attempt(() => fs.readlinkSync(path)),
    text: (path, enough) =>
      attempt(() => {
        const fd = fs.openSync(path, "r");
        try {
          return readUntil((buffer) => fs.readSync(fd, buffer, 0, buffer.length, null), enough);
        } finally {
          fs.closeSync(fd);
        }
      }),
  };
}

function createStart(
  { adapter, process, snapshot }: NodeStart,
  libc: NodeSockets["libc"],
  activation: Activation,
): Adapter["start"] {
  // Now, because a deploy flips links.
  const origin = adapter.canReload ? findOrigin(process, snapshot) : undefined;

  function variablesFor(
    offered: OfferedDescriptors | undefined,
    sockets: readonly unknown[],
    native: string | undefined,
  ) {
    if (offered !== undefined) {
      return descriptorVariables(offered.describe(lastNumber(sockets)), native);
    }
    // Node's sockets come over the channel.
    return libc === undefined && native !== undefined ? nativeVariable(native) : undefined;
  }
  return async (request) => {
    const module = await import("node:child_process");
    request.signal.throwIfAborted();
    if (origin === undefined) {
      throw new ReloadError("unsupported", "a worker thread cannot be reloaded");
    }
    if (clusterRole(process) !== undefined) {
      throw new ReloadError(
        "unsupported",
        "a program of node:cluster cannot be reloaded, because a new process belongs to no cluster: run it without, as one process or with `reload-self run --instances 4`",
      );
    }
    const sockets = activation.inherit();
    const opened = request.sendsDescriptors ? ifUsable(libc?.()) : undefined;
    const offered = opened && offerDescriptors(opened);
    return await startSuccessor({
      pid: process.pid,
      // Bun closes all descriptors of a new process that are not in this list.
      spawn: spawnWithNode(
        module,
        sockets,
        { sendsHandles: true, handlesTravelAlone: false },
        offered?.end,
      ),
      descriptors: offered?.channel,
      variables: variablesFor(offered, sockets, request.native),
      kill: (pid, signal) => process.kill(pid, signal),
      what: request.command === undefined ? origin.command : asCommandLine(request.command),
      cwd: origin.cwd,
      history: { started: origin.started, loaded: snapshot.loaded, current: process.env },
      request,
      sockets: sockets.length,
      shell: request.how === "plain" ? undefined : findShell(process),
    });
  };
}

function socketAdapter(
  { adapter: { runtime }, process, snapshot: { loaded } }: NodeStart,
  { datagrams, connections, http1, stopListening, libc }: NodeSockets,
  { activated, listen }: Activation,
): SocketAdapter {
  const { platform } = process;
  const descriptors = () =>
    attempt(() => process.getBuiltinModule("node:fs").readdirSync("/proc/self/fd").map(Number));
  return {
    activated,
    listen,
    files: () => nodeFiles(process),
    isServed,
    retain: runtime === "Node" && platform !== "win32" ? retainByHandle : undefined,
    datagrams,
    http1,
    connections: platform === "win32" ? undefined : connections,
    descriptors,
    listening() {
      const own = platform === "linux" ? descriptors() : undefined;
      if (own === undefined && runtime === "Node") return listActiveServers(process);
      const debuggers = debuggerPorts(process.execArgv, loaded.BUN_INSPECT).add(process.debugPort);
      return own && ownSockets(own, procFiles(process), debuggers);
    },
    stopListening,
    libc: platform === "linux" ? libc : undefined,
  };
}

/** Completes the adapter. */
export function completeNodeAdapter(
  start: NodeStart,
  sockets: NodeSockets = {
    listen: start.process.platform === "win32" ? listenOnWindows : listenDirectly,
    datagrams: nodeDatagrams(start.process.platform === "win32"),
    connections: nodeConnections(WINDOW, markIdleOnNode),
    stopListening: ({ fd }) => closeActiveServer(start.process, fd),
  },
): Adapter {
  const {
    adapter: { service, ...basic },
    process,
    snapshot,
    handshake: { generation, supervisor, descriptors },
  } = start;
  const { env, pid } = process;
  const activation = createActivation(
    env,
    pid,
    generation !== undefined,
    sockets.listen,
    () => procFiles(process),
  );
  return {
    ...basic,
    inheritedDescriptors() {
      const libc = descriptors === undefined ? undefined : ifUsable(sockets.libc?.());
      return libc && joinDescriptors(libc, descriptors as string);
    },
    // A reload will report the error.
    warmUp: () => void import("node:child_process").catch(() => {}),
    start: createStart(start, sockets.libc, activation),
    service: service && nodeService(process, service, snapshot, supervisor),
    sockets: socketAdapter(start, sockets, activation),
  };
}
