/** The part of Node's adapter that a start does not wait for. Bun's builds on it. */
import type * as ChildProcessModule from "node:child_process";
import type { Adapter } from "../../src/core/adapter.ts";
import { ReloadError } from "../../src/core/error.ts";
import type { Listener, ListenSource, OwnSocket, SocketAdapter } from "../../src/core/socket_adapter.ts";
import type { BindableServer } from "../../src/core/token.ts";
import { closeWhenQuiet } from "../../src/windows/accept_ahead.ts";
import { createActivation, type ProcFiles, readUntil } from "../shared/activation.ts";
import { attempt } from "../../src/core/attempt.ts";
import { joinDescriptors, offerDescriptors } from "../shared/descriptors.ts";
import { descriptorVariables, nativeVariable } from "../../src/protocol/handshake.ts";
import {
  asCommandLine,
  type CommandLine,
  type Files,
  isGenuine,
  parseCmdline,
  rebuildCommandLine,
  typedDirectory,
  typedExecutable,
} from "../shared/command_line.ts";
import { type Environment, parseEnviron, type Snapshot } from "../shared/environment.ts";
import { debuggerPorts, withFreeInspector } from "../shared/inspector.ts";
import { findReleaseLink } from "../shared/release_link.ts";
import { closeActiveServer, listActiveServers, ownSockets } from "../shared/own_sockets.ts";
import type { NodeStart } from "./adapter.ts";
import type { NodeProcess } from "../shared/node_channel.ts";
import { markIdleOnNode, nodeConnections } from "../shared/node_connections.ts";
import { nodeDatagrams } from "../shared/node_datagrams.ts";
import { nodeFiles } from "../shared/node_files.ts";
import { lastNumber, spawnWithNode, startSuccessor } from "../shared/node_process.ts";
import { findShell, linkFiles, nodeService } from "../shared/node_service.ts";
import { heldByHandle, isServed, listenDirectly } from "../shared/node_sockets.ts";

/** How many connections may be on their way to another process at once. */
const WINDOW = 32;

/** The part of the socket adapter in which Bun differs. */
export interface NodeSockets {
  listen: SocketAdapter["listen"];
  libc?: SocketAdapter["libc"];
  datagrams?: SocketAdapter["datagrams"];
  connections?: SocketAdapter["connections"];
  http1?: SocketAdapter["http1"];
  stopListening?: SocketAdapter["stopListening"];
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
  const files: Files = { realPath: (path) => attempt(() => fs.realpathSync(path)) };
  const typed = typedDirectory(loaded.PWD, cwd, files);
  const fields = parseCmdline(cmdline ?? "");
  const { argv0, execPath } = process;
  const file = typedExecutable(argv0, execPath, typed, loaded.PATH, files);
  const command: CommandLine = isGenuine(fields, argv0)
    ? { file, argv0, args: fields.slice(1) }
    : { ...rebuildCommandLine(process, cwd, typed), file };
  command.args = withFreeInspector(command.args, Math.max(0, process.argv.length - 2));
  return { command, cwd: typed, started: environ === undefined ? undefined : parseEnviron(environ) };
}

/** Completes the adapter. */
export function completeNodeAdapter(
  { adapter, process, snapshot, handshake: { generation, supervisor, descriptors: inherited } }: NodeStart,
  { listen, libc, datagrams, connections, http1, stopListening }: NodeSockets = {
    listen: process.platform === "win32" ? listenOnWindows : listenDirectly,
    datagrams: nodeDatagrams(process.platform === "win32"),
    connections: nodeConnections(WINDOW, markIdleOnNode),
    stopListening: ({ fd }) => closeActiveServer(process, fd),
  },
): Adapter {
  const { env } = process;
  const { service, ...basic } = adapter;
  // Now, because a deploy flips links.
  const origin = adapter.canReload ? findOrigin(process, snapshot) : undefined;

  let loading: Promise<typeof ChildProcessModule> | undefined;
  const childProcess = () => loading ??= import("node:child_process");

  const openProc = (): ProcFiles => {
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
  };
  const activation = createActivation(env, process.pid, generation !== undefined, listen, openProc);
  const descriptors = () => attempt(() => process.getBuiltinModule("node:fs").readdirSync("/proc/self/fd").map(Number));

  return {
    ...basic,
    inheritedDescriptors() {
      const opened = inherited === undefined ? undefined : libc?.();
      return typeof opened === "object" ? joinDescriptors(opened, inherited as string) : undefined;
    },
    warmUp: () => void childProcess().catch(() => {}), // A reload will report the error.
    async start(request) {
      const module = await childProcess();
      request.signal.throwIfAborted();
      if (origin === undefined) throw new ReloadError("unsupported", "a worker thread cannot be reloaded");
      const { command: same, cwd, started } = origin;
      const what = request.command === undefined ? same : asCommandLine(request.command);
      const history = { started, loaded: snapshot.loaded, current: process.env };
      const sockets = activation.inherit();
      const opened = request.sendsDescriptors ? libc?.() : undefined;
      const offered = typeof opened === "object" ? offerDescriptors(opened) : undefined;
      return await startSuccessor({
        pid: process.pid,
        // Bun closes all descriptors of a new process that are not in this list.
        spawn: spawnWithNode(module, sockets, { sendsHandles: true, handlesTravelAlone: false }, offered?.end),
        descriptors: offered?.channel,
        variables: offered !== undefined
          ? descriptorVariables(offered.describe(lastNumber(sockets)), request.native)
          : libc === undefined && request.native !== undefined
          ? nativeVariable(request.native) // Node's sockets come over the channel.
          : undefined,
        kill: (pid, signal) => process.kill(pid, signal),
        what,
        cwd,
        history,
        request,
        sockets: sockets.length,
        shell: request.how === "plain" ? undefined : findShell(process),
      });
    },
    service: service && {
      ...nodeService(process, service, snapshot.loaded, supervisor),
      releaseLink: () => findReleaseLink(snapshot.loaded.PWD, snapshot.cwd, linkFiles(process.getBuiltinModule("node:fs"))),
    },
    sockets: {
      activated: activation.activated,
      listen: activation.listen,
      files: () => nodeFiles(process),
      isServed,
      held: adapter.runtime === "Node" && process.platform !== "win32" ? heldByHandle : undefined,
      http2CloseTruncates: false,
      datagrams,
      http1,
      connections: process.platform === "win32" ? undefined : connections,
      descriptors,
      listening() {
        const own = process.platform === "linux" ? descriptors() : undefined;
        if (own === undefined && adapter.runtime === "Node") return listActiveServers(process);
        // Its debugger keeps no process alive, and no server has its port.
        const ports = debuggerPorts(process.execArgv, snapshot.loaded.BUN_INSPECT).add(process.debugPort);
        const isDebugger = ({ address }: OwnSocket) => typeof address === "object" && ports.has(address.port);
        return own && ownSockets(own, openProc()).filter((socket) => !isDebugger(socket));
      },
      stopListening,
      libc: process.platform === "linux" ? libc : undefined,
    },
  };
}
