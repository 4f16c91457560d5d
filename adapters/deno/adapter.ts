import type { Adapter, Channel, StartedProcess, StartRequest } from "../../core/adapter.ts";
import { ReloadError } from "../../core/error.ts";
import type { Listener, ListenSource } from "../../core/socket_adapter.ts";
import type { BindableServer } from "../../core/token.ts";
import { pack } from "../../reload/messages.ts";
import { attachConsole, KERNEL, type Kernel } from "../../windows/console.ts";
import { createActivation, readUntil } from "../activation.ts";
import { attempt } from "../attempt.ts";
import { clock } from "../clock.ts";
import { asCommandLine } from "../command_line.ts";
import { takeHandshake } from "../environment_handshake.ts";
import type { Environment } from "../environment.ts";
import { inheritedChannel, type NodeProcess, spawnWithNode, startSuccessor } from "../node/process.ts";
import { platformSignals } from "../signals.ts";
import { denoFiles } from "./files.ts";
import type { DenoNamespace } from "./namespace.ts";
import { createOrigin } from "./origin.ts";
import { createPermissions, notRunnable } from "./permissions.ts";
import { connectChannel, spawnWithDeno } from "./process.ts";
import { denoService } from "./service.ts";
import { closeOnExec, denoLibc, isServedOnDeno, listenOnDeno, serveOnDeno, setNonBlocking } from "./sockets.ts";
import { isElected } from "./threads.ts";

/** What new processes are started through where they are not started plainly. */
const SHELL = "/bin/sh";
/** Milliseconds between two checks whether the predecessor is still there. */
const PREDECESSOR_CHECK_MS = 500;

/**
 * The adapter for Deno. Signals and `listen()` need no permission. A reload needs `--allow-env`, because the environment is handed on, and
 * `--allow-run=<the deno executable>`; to start from a flipped symbolic link it needs `--allow-read` of that link.
 *
 * Start-up uses only Deno's own functions: the first use of Node's `process` costs 20 ms.
 */
export function createDenoAdapter(deno: DenoNamespace, isMain: boolean): Adapter {
  const permissions = createPermissions(deno);
  const mayReadEnv = permissions.isGranted("env");
  const isMainThread = isMain && (!mayReadEnv || isElected(deno.env, deno.pid, `${performance.now()}${Math.random()}`));
  const isLinux = deno.build.os === "linux" || deno.build.os === "android";
  const isWindows = deno.build.os === "windows";
  const seesProc = permissions.hasAll && isLinux;
  const { generation, channelPath, supervisor } = isMainThread && mayReadEnv
    ? takeHandshake(deno.env, {
      parent: deno.ppid,
      isAlive: (pid) => seesProc ? attempt(() => deno.statSync(`/proc/${pid}`)) !== undefined : undefined,
    })
    : {};
  const loaded: Environment = mayReadEnv ? deno.env.toObject() : {};
  const origin = isMainThread ? createOrigin(deno, permissions, loaded, isLinux) : undefined;
  const files = denoFiles(deno, permissions.checkPath);
  const service = isMainThread ? denoService(deno, permissions, loaded, files, seesProc, supervisor) : undefined;
  let servesPath = false;

  function listen(server: BindableServer, source: ListenSource): Promise<Listener> {
    servesPath ||= "options" in source && source.options.path !== undefined;
    if ("fd" in source && permissions.mayCall()) setNonBlocking(deno, [source.fd]);
    return listenOnDeno(server, source);
  }

  const activation = createActivation(loaded, deno.pid, generation !== undefined, listen, () => ({
    link: deno.readLinkSync,
    text(path, isEnough) {
      const file = deno.openSync(path, { read: true });
      try {
        return readUntil((buffer) => file.readSync(buffer), isEnough);
      } finally {
        file.close();
      }
    },
  }));

  function descriptors(): number[] | undefined {
    return seesProc ? Array.from(deno.readDirSync("/proc/self/fd"), ({ name }) => Number(name)) : undefined;
  }

  /** The sockets that no new process may inherit: all but those of systemd's. */
  function ownSockets(): number[] {
    const passedOn = activation.inherit();
    return (descriptors() ?? []).filter((fd) =>
      fd > 2 && !passedOn.includes(fd) && attempt(() => deno.readLinkSync(`/proc/self/fd/${fd}`))?.startsWith("socket:")
    );
  }

  /**
   * A channel that notices when the other process is gone. When that process dies with messages unread, the kernel reports a reset connection
   * instead of its end (unix(7)); Deno 2.9 then stops reading without closing the channel.
   */
  function watch(channel: Channel): Channel {
    const closed = Promise.withResolvers<void>();
    const check = () => channel.send(pack({ type: "alive" })).catch(() => closed.resolve());
    const timer = setInterval(check, PREDECESSOR_CHECK_MS);
    deno.unrefTimer(timer);
    channel.onClose(closed.resolve);
    closed.promise.then(() => clearInterval(timer));
    return { ...channel, onClose: (callback) => void closed.promise.then(callback) };
  }

  function openKernel(): Kernel {
    const { symbols } = deno.dlopen(KERNEL, { AttachConsole: { parameters: ["u32"], result: "i32" } });
    return symbols as unknown as Kernel;
  }

  async function start(request: StartRequest): Promise<StartedProcess> {
    const { command, signal, sendsSockets } = request;
    if (origin === undefined) throw new ReloadError("unsupported", "a worker thread cannot be reloaded");
    const current = permissions.environmentFor(command?.slice(0, 1) ?? [origin.execPath, "deno"]);
    const what = command === undefined ? await origin.sameAgain(signal) : asCommandLine(command);
    const shell = permissions.isGranted("run", { command: SHELL }) ? SHELL : undefined;
    // `reload-self run` would take the end of this process for the end of the program.
    if (request.how === "guarded" && shell === undefined) throw notRunnable(SHELL);
    origin.checkFiles(what.file);
    const sockets = activation.inherit();
    if (permissions.mayCall() && servesPath) closeOnExec(deno, ownSockets());
    const folder = command === undefined && !sendsSockets && sockets.length === 0 ? service?.runtimeFolder() : undefined;
    const spawn = (folder !== undefined && spawnWithDeno(deno, folder)) ||
      spawnWithNode(await import("node:child_process"), sockets, !isWindows); // ERR_INVALID_HANDLE_TYPE on Windows
    signal.throwIfAborted();
    const started = await startSuccessor({
      pid: deno.pid,
      spawn,
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
    ...clock,
    ...platformSignals(isWindows ? "win32" : deno.build.os),
    runtime: "Deno",
    pid: deno.pid,
    canReload: isMainThread,
    onSignal(signal, handler) {
      deno.addSignalListener(signal, handler);
      return () => deno.removeSignalListener(signal, handler);
    },
    predecessor() {
      if (generation === undefined) return undefined;
      if (channelPath !== undefined) {
        permissions.checkPath(channelPath);
        return { generation, channel: connectChannel(deno, channelPath) };
      }
      const { process } = globalThis as unknown as { process: NodeProcess };
      const predecessor = inheritedChannel(process, generation, !isWindows);
      if (predecessor !== undefined && isWindows && permissions.isGranted("ffi", { path: KERNEL })) {
        attachConsole(deno.ppid, openKernel);
      }
      return predecessor && { ...predecessor, channel: watch(predecessor.channel) };
    },
    warmUp() {
      // Deno loads these at their first use, which takes 4 and 7 ms.
      void deno.Command;
      clearTimeout(setTimeout(() => {}));
    },
    start,
    exit: (code) => deno.exit(code),
    service,
    sockets: {
      activated: activation.activated,
      listen: activation.listen,
      serve: serveOnDeno(deno),
      files: () => files,
      isServed: (path) => isServedOnDeno(deno, path),
      descriptors,
      cutsAnswers: true, // Deno 2.9: [kMaybeDestroy] in ext/node/polyfills/http2.ts counts streams, not what is to be sent.
      libc: isLinux && permissions.mayListen() ? () => Promise.resolve(denoLibc(deno, permissions.mayCall())) : undefined,
    },
  };
}
