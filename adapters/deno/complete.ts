/** The part of Deno's adapter that a start does not wait for. */
import type { Adapter, StartedProcess, StartRequest } from "../../src/core/adapter.ts";
import { ReloadError } from "../../src/core/error.ts";
import type { Listener, ListenSource } from "../../src/core/socket_adapter.ts";
import type { BindableServer } from "../../src/core/token.ts";
import { ownListeners, takeAway } from "../../src/linux/listeners.ts";
import { attachConsole, KERNEL, type Kernel32 } from "../../src/windows/console.ts";
import { createActivation, type ProcFiles, readUntil } from "../shared/activation.ts";
import { FIRST } from "../shared/listen_fds.ts";
import { attempt } from "../../src/core/attempt.ts";
import { inheriting, joinDescriptors, offerDescriptors } from "../shared/descriptors.ts";
import { descriptorVariables } from "../../src/protocol/handshake.ts";
import { asCommandLine, parseCmdline } from "../shared/command_line.ts";
import { findReleaseLink } from "../shared/release_link.ts";
import { nodeConnections } from "../shared/node_connections.ts";
import { debuggerPorts } from "../shared/inspector.ts";
import { ownSockets } from "../shared/own_sockets.ts";
import { closeOnExec, isServedOnDeno, listenOnDeno, markIdleOnDeno, setNonBlocking } from "./sockets.ts";
import { spawnWithNode, startSuccessor } from "../shared/node_process.ts";
import type { DenoStart } from "./adapter.ts";
import { denoDatagramAdapter } from "./dgram.ts";
import type { DenoNamespace } from "./namespace.ts";
import { denoCarries } from "./channel.ts";
import { denoService, linkFiles } from "./service.ts";
import { createOrigin } from "./origin.ts";
import { hasProc, notRunnable } from "./permissions.ts";
import { spawnWithDeno } from "./process.ts";
import { denoLibc } from "./libc.ts";

/** What new processes are started through where they are not started plainly. */
const SHELL = "/bin/sh";

/** Completes the adapter. */
export function completeDenoAdapter(
  deno: DenoNamespace,
  { adapter, permissions, snapshot, handshake, files, service: basicService }: DenoStart,
): Adapter {
  const { loaded } = snapshot;
  const isWindows = deno.build.os === "windows";
  const origin = adapter.canReload ? createOrigin(deno, permissions, snapshot) : undefined;
  const service = adapter.canReload
    ? {
      ...denoService(deno, permissions, basicService, loaded, handshake.supervisor),
      releaseLink: () => findReleaseLink(loaded.PWD, snapshot.cwd, linkFiles(deno, permissions)),
    }
    : undefined;

  if (handshake.generation !== undefined && isWindows && permissions.isGranted("ffi", { path: KERNEL })) {
    attachConsole(deno.ppid, openKernel);
  }

  function openKernel(): Kernel32 {
    const { symbols } = deno.dlopen(KERNEL, { AttachConsole: { parameters: ["u32"], result: "i32" } });
    return symbols as unknown as Kernel32;
  }

  function listen(server: BindableServer, source: ListenSource): Promise<Listener> {
    const mayCall = permissions.mayCall();
    if ("fd" in source && mayCall) setNonBlocking(deno, [source.fd]);
    return listenOnDeno(deno, server, source, mayCall);
  }

  function whyNoDatagrams(): string | undefined {
    if (!hasProc(deno)) return "Deno can do that on Linux only";
    if (!permissions.mayCall()) return "Deno does not allow foreign function calls; add --allow-ffi";
    return typeof denoLibc(deno, true) === "string" ? "the C library is not found" : undefined;
  }

  const proc: ProcFiles = {
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
  const activation = createActivation(loaded, deno.pid, handshake.generation !== undefined, listen, () => proc);

  // Deno 2.9 leaves the channel that it has inherited to its children: while one lives, the old process would not notice that this one is gone.
  const isChannelInherited = handshake.generation !== undefined && handshake.channelPath === undefined && !isWindows;
  if (isChannelInherited && permissions.mayCall()) closeOnExec(deno, FIRST + activation.inherit().length);

  function descriptors(): number[] | undefined {
    return permissions.seesProc ? Array.from(deno.readDirSync("/proc/self/fd"), ({ name }) => Number(name)) : undefined;
  }

  /** Where the channels to new processes are opened: those sockets are not the program's. */
  let channelFolder: string | undefined;

  async function start(request: StartRequest): Promise<StartedProcess> {
    const { command, signal, sendsSockets } = request;
    if (origin === undefined) throw new ReloadError("unsupported", "a worker thread cannot be reloaded");
    const current = permissions.environmentFor(command?.slice(0, 1) ?? origin.names());
    const what = command === undefined ? await origin.sameAgain(signal) : asCommandLine(command);
    const shell = permissions.isGranted("run", { command: SHELL }) ? SHELL : undefined;
    // `reload-self run` would take the end of this process for the end of the program.
    if (request.how === "guarded" && shell === undefined) throw notRunnable(SHELL);
    origin.checkFiles(what.file);
    const sockets = activation.inherit();
    const folder = command === undefined && !sendsSockets && sockets.length === 0 ? service?.runtimeFolder() : undefined;
    channelFolder ??= folder;
    const spawn = (folder !== undefined && spawnWithDeno(deno, folder)) ||
      spawnWithNode(await import("node:child_process"), sockets, denoCarries(isWindows));
    signal.throwIfAborted();
    const libc = request.sendsDescriptors && permissions.mayCall() ? denoLibc(deno, true) : undefined;
    const offered = typeof libc === "object" ? offerDescriptors(libc) : undefined;
    const started = await startSuccessor({
      pid: deno.pid,
      spawn: typeof libc === "object" && offered !== undefined ? inheriting(libc, offered.end, spawn) : spawn,
      descriptors: offered?.channel,
      variables: offered && descriptorVariables(offered.describe(offered.end), request.native),
      kill(pid, signal) {
        // A process that may run only some executables may not signal process groups; Deno would ask on the terminal.
        if (!permissions.isGranted("run")) throw new ReloadError("permission", "not allowed to signal a process group");
        deno.kill(pid, signal);
      },
      what,
      cwd: origin.cwd,
      history: { started: origin.started, loaded, current },
      request,
      sockets: sockets.length,
      shell,
    });
    if (permissions.mayCall()) setNonBlocking(deno, sockets.filter((fd) => fd !== "ignore"));
    return started;
  }

  return {
    ...adapter,
    service,
    inheritedDescriptors() {
      const libc = handshake.descriptors === undefined ? undefined : denoLibc(deno, permissions.mayCall());
      return typeof libc === "object" ? joinDescriptors(libc, handshake.descriptors as string) : undefined;
    },
    warmUp() {
      // Deno loads these at their first use, which takes 4 and 7 ms.
      void deno.Command;
      clearTimeout(setTimeout(() => {}));
    },
    start,
    sockets: {
      activated: activation.activated,
      listen: activation.listen,
      files: () => files,
      isServed: (path) => isServedOnDeno(deno, path),
      connections: isWindows ? undefined : nodeConnections(1, markIdleOnDeno), // It loses a socket that arrives in one piece with another message.
      descriptors,
      listening() {
        const own = descriptors();
        if (own !== undefined) {
          const ports = debuggerPorts(parseCmdline(snapshot.cmdline ?? ""));
          const isChannel = (path: string) => channelFolder !== undefined && path.startsWith(`${channelFolder}/`);
          return ownSockets(own, proc)
            .filter(({ address }) => typeof address === "string" ? !isChannel(address) : !ports.has(address.port));
        }
        const libc = hasProc(deno) && permissions.mayCall() ? denoLibc(deno, true) : undefined;
        if (typeof libc !== "object") return undefined;
        return ownListeners(libc).map(({ fd, name, port }) => {
          const address = name.slice(0, name.lastIndexOf(":"));
          return {
            fd,
            address: { address: address.replace(/[[\]]/g, ""), family: address.startsWith("[") ? "IPv6" : "IPv4", port },
          };
        });
      },
      stopListening({ fd }) {
        const libc = hasProc(deno) && permissions.mayCall() ? denoLibc(deno, true) : undefined;
        return typeof libc === "object" && takeAway(libc, fd);
      },
      datagrams: denoDatagramAdapter(() => denoLibc(deno, permissions.mayCall()), whyNoDatagrams),
      http2CloseTruncates: true, // Deno 2.9: [kMaybeDestroy] in ext/node/polyfills/http2.ts counts streams, not what is to be sent.
      libc: hasProc(deno) && permissions.mayListen() ? () => denoLibc(deno, permissions.mayCall()) : undefined,
    },
  };
}
