/** The part of Deno's adapter that a start does not wait for. */
import type { Adapter, StartRequest } from "../../src/core/adapter.ts";
import { ReloadError } from "../../src/core/error.ts";
import type { Libc, Listener, ListenSource, SocketAdapter } from "../../src/core/socket_adapter.ts";
import type { BindableServer } from "../../src/core/token.ts";
import { addressOfSocket } from "../../src/linux/addresses.ts";
import { ownListeners, takeAway } from "../../src/linux/listeners.ts";
import { attachConsole, KERNEL, type Kernel32 } from "../../src/windows/console.ts";
import { type Activation, createActivation } from "../shared/activation.ts";
import { FIRST } from "../shared/listen_fds.ts";
import { attempt } from "../../src/core/attempt.ts";
import { inheriting, joinDescriptors, offerDescriptors } from "../shared/descriptors.ts";
import { descriptorVariables } from "../../src/protocol/handshake.ts";
import { asCommandLine, parseCmdline } from "../shared/command_line.ts";
import { nodeConnections } from "../shared/node_connections.ts";
import { ifUsable } from "../shared/libc.ts";
import { debuggerPorts } from "../shared/inspector.ts";
import { ownSockets, type ProcFiles, readUntil } from "../shared/own_sockets.ts";
import {
  closeOnExec,
  isServedOnDeno,
  listenOnDeno,
  markIdleOnDeno,
  setNonBlocking,
} from "./sockets.ts";
import { type Spawn, spawnWithNode, startSuccessor } from "../shared/node_process.ts";
import type { DenoStart } from "./adapter.ts";
import { denoDatagramAdapter } from "./dgram.ts";
import type { DenoNamespace } from "./namespace.ts";
import { denoCarries } from "./channel.ts";
import { denoService } from "./service.ts";
import { Origin } from "./origin.ts";
import { hasProc, notRunnable, type Permissions } from "./permissions.ts";
import { spawnWithDeno } from "./process.ts";
import { denoLibc } from "./libc.ts";

/** What new processes are started through where they are not started plainly. */
const SHELL = "/bin/sh";

function openKernel(deno: DenoNamespace): Kernel32 {
  const { symbols } = deno.dlopen(KERNEL, {
    AttachConsole: { parameters: ["u32"], result: "i32" },
  });
  return symbols as unknown as Kernel32;
}

function procFiles(deno: DenoNamespace): ProcFiles {
  return {
    link: (path) => attempt(() => deno.readLinkSync(path)),
    text: (path, isEnough) =>
      attempt(() => {
        const file = deno.openSync(path, { read: true });
        try {
          return readUntil((buffer) => file.readSync(buffer), isEnough);
        } finally {
          file.close();
        }
      }),
  };
}

function createStart(
  deno: DenoNamespace,
  { adapter, permissions, snapshot }: DenoStart,
  activation: Activation,
  spawnOverPath: () => Spawn | undefined,
): Adapter["start"] {
  const origin = adapter.canReload ? new Origin(deno, permissions, snapshot) : undefined;

  /** With Deno's own function where no socket is sent: it is faster. */
  async function spawnFor(
    { command, sendsSockets }: StartRequest,
    sockets: readonly (number | "ignore")[],
  ): Promise<Spawn> {
    const isPlain = command === undefined && !sendsSockets && sockets.length === 0;
    return (isPlain ? spawnOverPath() : undefined) ??
      spawnWithNode(
        await import("node:child_process"),
        sockets,
        denoCarries(deno.build.os === "windows"),
      );
  }
  function kill(pid: number, signal: "SIGKILL"): void {
    // A process that may run only some executables may not signal process groups; Deno would ask on
    // the terminal.
    if (!permissions.isGranted("run")) {
      throw new ReloadError("permission", "not allowed to signal a process group");
    }
    deno.kill(pid, signal);
  }

  return async (request) => {
    const { command, signal } = request;
    if (origin === undefined) {
      throw new ReloadError("unsupported", "a worker thread cannot be reloaded");
    }
    const current = permissions.environmentFor(command?.slice(0, 1) ?? origin.names());
    const what = command === undefined ? await origin.sameAgain(signal) : asCommandLine(command);
    const shell = permissions.isGranted("run", { command: SHELL }) ? SHELL : undefined;
    // `reload-self run` would take the end of this process for the end of the program.
    if (request.how === "guarded" && shell === undefined) throw notRunnable(SHELL);
    origin.checkFiles(what.file);
    const sockets = activation.inherit();
    const spawn = await spawnFor(request, sockets);
    signal.throwIfAborted();
    const libc = request.sendsDescriptors ? usableLibc(deno, permissions) : undefined;
    const offered = libc && offerDescriptors(libc);
    const started = await startSuccessor({
      pid: deno.pid,
      spawn: libc && offered ? inheriting(libc, offered.end, spawn) : spawn,
      descriptors: offered?.channel,
      variables: offered && descriptorVariables(offered.describe(offered.end), request.native),
      kill,
      what,
      cwd: origin.cwd,
      history: { started: origin.started, loaded: snapshot.loaded, current },
      request,
      sockets: sockets.length,
      shell,
    });
    if (permissions.mayCall()) setNonBlocking(deno, sockets.filter((fd) => fd !== "ignore"));
    return started;
  };
}

/** The C library, where it is known and may be called. */
function usableLibc(deno: DenoNamespace, { mayCall }: Permissions): Libc | undefined {
  return hasProc(deno) && mayCall() ? ifUsable(denoLibc(deno, true)) : undefined;
}

function socketAdapter(
  deno: DenoNamespace,
  { permissions, snapshot, files }: DenoStart,
  { activated, listen }: Activation,
  isChannel: (path: string) => boolean,
): SocketAdapter {
  const { mayCall, mayListen, seesProc } = permissions;
  const anyLibc = () => denoLibc(deno, mayCall());
  const descriptors = () =>
    seesProc
      ? Array.from(deno.readDirSync("/proc/self/fd"), ({ name }) => Number(name))
      : undefined;

  function whyNoDatagrams(): string | undefined {
    if (!hasProc(deno)) return "Deno can do that on Linux only";
    if (!mayCall()) return "Deno does not allow foreign function calls; add --allow-ffi";
    return typeof anyLibc() === "string" ? "the C library is not found" : undefined;
  }
  return {
    activated,
    listen,
    files: () => files,
    isServed: (path) => isServedOnDeno(deno, path),
    // One at a time: Deno 2.9 loses a socket that arrives in one piece with another message.
    connections: deno.build.os === "windows" ? undefined : nodeConnections(1, markIdleOnDeno),
    descriptors,
    listening() {
      const own = descriptors();
      if (own !== undefined) {
        return ownSockets(own, procFiles(deno), debuggerPorts(parseCmdline(snapshot.cmdline ?? "")))
          .filter(({ address }) => typeof address === "object" || !isChannel(address));
      }
      const libc = usableLibc(deno, permissions);
      return libc && ownListeners(libc).flatMap(({ fd }) => {
        const address = addressOfSocket(libc, fd);
        return address === undefined ? [] : [{ fd, address }];
      });
    },
    stopListening({ fd }) {
      const libc = usableLibc(deno, permissions);
      return libc !== undefined && takeAway(libc, fd);
    },
    datagrams: denoDatagramAdapter(anyLibc, whyNoDatagrams),
    libc: hasProc(deno) && mayListen() ? anyLibc : undefined,
  };
}

/** Completes the adapter. */
export function completeDenoAdapter(deno: DenoNamespace, start: DenoStart): Adapter {
  const { adapter, permissions, snapshot, handshake } = start;
  const { mayCall } = permissions;
  const isSuccessor = handshake.generation !== undefined;
  const isWindows = deno.build.os === "windows";
  const service = adapter.canReload
    ? denoService(deno, permissions, start.service, snapshot, handshake.supervisor)
    : undefined;
  if (isSuccessor && isWindows && permissions.isGranted("ffi", { path: KERNEL })) {
    attachConsole(deno.ppid, () => openKernel(deno));
  }

  function listen(server: BindableServer, source: ListenSource): Promise<Listener> {
    if ("fd" in source && mayCall()) setNonBlocking(deno, [source.fd]);
    return listenOnDeno(deno, server, source, mayCall());
  }
  const activation = createActivation(
    snapshot.loaded,
    deno.pid,
    isSuccessor,
    listen,
    () => procFiles(deno),
  );
  // Deno 2.9 leaves the channel that it has inherited to its children: while one lives, the old
  // process would not notice that this one is gone.
  const isChannelInherited = isSuccessor && handshake.channelPath === undefined && !isWindows;
  if (isChannelInherited && mayCall()) closeOnExec(deno, FIRST + activation.inherit().length);

  /** Where the channels to new processes are opened: those sockets are not the program's. */
  let channelFolder: string | undefined;
  const isChannel = (path: string) =>
    channelFolder !== undefined && path.startsWith(`${channelFolder}/`);
  function spawnOverPath(): Spawn | undefined {
    const folder = service?.runtimeFolder();
    channelFolder ??= folder;
    return folder === undefined ? undefined : spawnWithDeno(deno, folder);
  }

  return {
    ...adapter,
    service,
    inheritedDescriptors() {
      const libc = handshake.descriptors === undefined ? undefined : usableLibc(deno, permissions);
      return libc && joinDescriptors(libc, handshake.descriptors as string);
    },
    warmUp() {
      // Deno loads these at their first use, which takes 4 and 7 ms.
      void deno.Command;
      clearTimeout(setTimeout(() => {}));
    },
    start: createStart(deno, start, activation, spawnOverPath),
    sockets: socketAdapter(deno, start, activation, isChannel),
  };
}
