import type { Adapter, Channel } from "../core/adapter.ts";
import type { Listener, ListenSource } from "../core/socket_adapter.ts";
import type { BindableServer } from "../core/token.ts";
import { ReloadError } from "../core/error.ts";
import { pack } from "../core/messages.ts";
import { createActivation, readUntil } from "./activation.ts";
import { takeArrival } from "./arrival.ts";
import { attempt } from "./attempt.ts";
import { clock } from "./clock.ts";
import {
  asCommandLine,
  type CommandLine,
  type Files,
  isGenuine,
  parseCmdline,
  typedDirectory,
  typedExecutable,
} from "./command_line.ts";
import { type Permission, permissionFlags, PERMISSIONS, type PermissionState } from "./deno_flags.ts";
import { isElected, type SharedVariables } from "./deno_threads.ts";
import { connectChannel, type DenoProcessNamespace, spawnWithDeno } from "./deno_process.ts";
import { denoService, type DenoServiceNamespace } from "./deno_service.ts";
import {
  closeOnExec,
  denoFiles,
  denoLibc,
  type DenoSocketsNamespace,
  isServedOnDeno,
  listenOnDeno,
  serveOnDeno,
  setNonBlocking,
} from "./deno_sockets.ts";
import { type Environment, parseEnviron } from "./environment.ts";
import { LIBRARIES } from "./libc.ts";
import { inheritedChannel, type NodeProcess, spawnWithNode, startError, startSuccessor } from "./node_process.ts";
import { platformSignals } from "./signals.ts";
import { attachConsole, KERNEL } from "./windows.ts";

/** What of the global `Deno` is used here. */
export interface DenoNamespace
  extends Omit<DenoSocketsNamespace, "connect">, Omit<DenoServiceNamespace, "Command">, DenoProcessNamespace {
  readonly Command: DenoServiceNamespace["Command"] & DenoProcessNamespace["Command"];
  readonly pid: number;
  readonly args: readonly string[];
  readonly mainModule: string;
  readonly build: { readonly os: string; readonly standalone: boolean };
  readonly env: SharedVariables;
  readonly permissions: {
    querySync(descriptor: { name: Permission; path?: string; command?: string }): PermissionState;
  };
  execPath(): string;
  cwd(): string;
  realPathSync(path: string): string;
  addSignalListener(signal: string, handler: () => void): void;
  removeSignalListener(signal: string, handler: () => void): void;
  kill(pid: number, signal: string): void;
  readDirSync(path: string): Iterable<{ readonly name: string }>;
  readLinkSync(path: string): string;
  exit(code: number): void;
}

/** What new processes are started through where they are not started plainly. */
const SHELL = "/bin/sh";
/** Milliseconds between two looks whether the predecessor is still there. */
const LOOK_INTERVAL = 500;

/** How this program was started. */
interface Origin {
  /** `undefined` where it cannot be told. */
  command: CommandLine | undefined;
  started: Environment | undefined;
}

/**
 * The adapter for Deno. Signals and `listen()` need no permission. A reload needs `--allow-env`, because the environment is handed
 * on, and `--allow-run=<the deno executable>`; to start from a flipped symbolic link it needs `--allow-read` of that link.
 * Nothing here ever makes Deno ask on the terminal: what is not granted is an error that names the flag.
 *
 * Start-up stays with Deno's own functions: the first use of Node's `process` costs 20 ms.
 */
export function createDenoAdapter(deno: DenoNamespace, isMain: boolean): Adapter {
  const envGranted = isGranted("env");
  const id = `${performance.now()}${Math.random()}`;
  const isMainThread = isMain && (!envGranted || isElected(deno.env, deno.pid, id));
  const hasAll = PERMISSIONS.every((name) => isGranted(name));
  const hasProc = deno.build.os === "linux" || deno.build.os === "android";
  const { generation, channelPath, supervisor } = isMainThread && envGranted
    ? takeArrival(deno.env, {
      parent: deno.ppid,
      isAlive: (pid) => hasAll && hasProc ? attempt(() => deno.statSync(`/proc/${pid}`)) !== undefined : undefined,
    })
    : {};
  const loaded: Environment = envGranted ? deno.env.toObject() : {};
  const execPath = deno.execPath().replace(/ \(deleted\)$/, "");
  const files: Files = {
    realPath(path) {
      return isGranted("read", { path }) ? attempt(() => deno.realPathSync(path)) : undefined;
    },
  };
  const cwd = typedDirectory(loaded.PWD, deno.cwd(), files);
  // Of a program made with `deno compile` the arguments are all there is to know; and it is no Deno that could be asked.
  const { standalone } = deno.build;
  let origin = isMainThread && hasAll && hasProc ? parseOrigin(read("cmdline"), read("environ")) : undefined;

  function isGranted(name: Permission, what: { path?: string; command?: string } = {}): boolean {
    const status = deno.permissions.querySync({ name, ...what });
    return status.state === "granted" && !status.partial;
  }

  function read(name: string): string | undefined {
    return attempt(() => deno.readTextFileSync(`/proc/self/${name}`));
  }

  function parseOrigin(cmdline: string | undefined, environ: string | undefined): Origin {
    return { command: parseCommand(cmdline ?? ""), started: environ === undefined ? undefined : parseEnviron(environ) };
  }

  function parseCommand(cmdline: string): CommandLine | undefined {
    if (standalone) return { file: execPath, args: deno.args };
    const [argv0 = "", ...args] = parseCmdline(cmdline);
    if (!isGenuine([argv0, ...args], undefined)) return undefined;
    return { file: typedExecutable(argv0, execPath, cwd, loaded.PATH, files), argv0, args };
  }

  /**
   * With fewer than all permissions Deno keeps its own command line from the program, and does not tell what its permissions are
   * restricted to. A second Deno may read it, the very executable that is to be started; it does nothing else.
   */
  async function askHelper(signal: AbortSignal): Promise<Origin> {
    const code = `const read = (name) => Deno.readTextFileSync("/proc/${deno.pid}/" + name);` +
      `console.log(JSON.stringify([read("cmdline"), read("environ")]));`;
    const args = ["eval", "--no-config", "--no-lock", code];
    const helper = new deno.Command(allowed([execPath, "deno"]), {
      args,
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
      signal,
    });
    const { success, stdout, stderr } = await helper.output();
    const text = new TextDecoder();
    if (!success) {
      throw new ReloadError("start", `the command line of this process cannot be read: ${text.decode(stderr).trim()}`);
    }
    const [cmdline, environ] = JSON.parse(text.decode(stdout));
    return parseOrigin(cmdline, environ);
  }

  /** The command line where no kernel tells it. Flags that are no permission are lost: `command` is there for them. */
  function rebuild(): CommandLine | undefined {
    if (standalone) return { file: execPath, args: deno.args };
    const states = Object.fromEntries(PERMISSIONS.map((name) => [name, deno.permissions.querySync({ name })]));
    const flags = permissionFlags(states as Record<Permission, PermissionState>);
    const script = deno.mainModule.startsWith("file:")
      ? decodeURIComponent(new URL(deno.mainModule).pathname).replace(/^\/(?=[A-Za-z]:)/, "")
      : deno.mainModule;
    return flags && { file: execPath, args: ["run", ...flags, script, ...deno.args] };
  }

  /** The same program again, or an error that says why that is not known and what to do. */
  function sameAgain(): CommandLine {
    const command = origin?.command;
    if (command === undefined) {
      const why = hasProc
        ? "process.title overwrote it. Set it after @js0/reload-self is imported"
        : `on ${deno.build.os} Deno does not tell what its permissions are restricted to. Do not restrict them to values`;
      throw new ReloadError("start", `the command line of this process is not known: ${why}, or give listen() a \`command\``);
    }
    // Where a link leads from the name to the executable, `--allow-run=deno` allows that name only. It is what was typed then.
    const { file, argv0 = "" } = command;
    return { ...command, file: allowed(argv0 === "" || argv0.includes("/") ? [file, execPath] : [file, execPath, argv0]) };
  }

  /** The first of these that may be run. */
  function allowed(files: readonly string[]): string {
    const file = files.find((command) => isGranted("run", { command }));
    if (file === undefined) throw notAllowed(files[0] as string);
    return file;
  }

  function notAllowed(file: string, more: string = ""): ReloadError {
    return new ReloadError("permission", `Deno does not allow this process to start ${file}: add --allow-run=${file}${more}`);
  }

  /** The environment, which takes a permission, or an error that names what to add to start one of these executables with it. */
  function environmentFor(files: readonly string[]): Environment {
    const env = isGranted("env") ? deno.env.toObject() : undefined;
    const isRunAllowed = files.some((command) => isGranted("run", { command }));
    if (!isRunAllowed) throw notAllowed(files[0] as string, env === undefined ? " --allow-env" : "");
    if (env === undefined) {
      throw new ReloadError("permission", "Deno does not allow this process to hand its environment on: add --allow-env");
    }
    // https://docs.deno.com/go/permission-env: such a variable could make the allowed executable run anything.
    const loader = Object.keys(env).find((name) => /^(LD|DYLD)_/.test(name));
    if (loader !== undefined && !isGranted("run")) {
      throw new ReloadError(
        "permission",
        `Deno does not allow this process to start another while ${loader} is set: add --allow-run (without a list), or unset ${loader}`,
      );
    }
    return env;
  }

  /**
   * Throws what the start would fail with, as far as that can be seen: Deno 2.9 leaks the socket of the channel to a process that
   * could not be started, one for each reload that fails so.
   */
  function checkFiles(file: string): void {
    const code = !file.includes("/")
      ? undefined
      : problem(file, ({ isFile, mode }) => isFile && (mode === null || (mode & 0o111) !== 0)) ??
        problem(cwd, ({ isDirectory }) => isDirectory);
    if (code !== undefined) throw startError(file, cwd, Object.assign(new Error(code), { code }));
  }

  function problem(path: string, isRight: (info: ReturnType<DenoNamespace["statSync"]>) => boolean): string | undefined {
    if (!isGranted("read", { path })) return undefined;
    try {
      return isRight(deno.statSync(path)) ? undefined : "EACCES";
    } catch (error) {
      return error instanceof Error && error.name === "NotFound" ? "ENOENT" : undefined;
    }
  }

  /**
   * A channel that notices when the other process is gone. Deno 2.9 says nothing when that process dies with messages unread: the
   * kernel then reports a reset connection instead of its end (unix(7)), and Deno's reader stops without closing the channel.
   */
  function watch(channel: Channel): Channel {
    const closed = Promise.withResolvers<void>();
    const timer = setInterval(() => channel.send(pack({ type: "alive" })).catch(() => closed.resolve()), LOOK_INTERVAL);
    deno.unrefTimer(timer);
    channel.onClose(closed.resolve);
    closed.promise.then(() => clearInterval(timer));
    return { ...channel, onClose: (callback) => void closed.promise.then(callback) };
  }

  const mayCall = () => LIBRARIES.some((path) => isGranted("ffi", { path }));

  let servesPath = false;
  function listen(server: BindableServer, source: ListenSource): Promise<Listener> {
    servesPath ||= "options" in source && source.options.path !== undefined;
    if ("fd" in source && mayCall()) setNonBlocking(deno, source.fd);
    return listenOnDeno(server, source);
  }

  function descriptors(): number[] | undefined {
    return hasAll && hasProc ? Array.from(deno.readDirSync("/proc/self/fd"), ({ name }) => Number(name)) : undefined;
  }

  /** The sockets that no new process is to have, but those of systemd's. */
  function ownSockets(): number[] {
    const passedOn = activation.inherit();
    return (descriptors() ?? []).filter((fd) =>
      fd > 2 && !passedOn.includes(fd) && attempt(() => deno.readLinkSync(`/proc/self/fd/${fd}`))?.startsWith("socket:")
    );
  }

  const activation = createActivation(loaded, deno.pid, generation !== undefined, listen, () => ({
    link: deno.readLinkSync,
    text(path, enough) {
      const file = deno.openSync(path, { read: true });
      try {
        return readUntil((buffer) => file.readSync(buffer), enough);
      } finally {
        file.close();
      }
    },
  }));

  function mayListen(): boolean {
    const { state, partial } = deno.permissions.querySync({ name: "net" });
    return state === "granted" || partial === true;
  }

  /** Deno would ask on the terminal. */
  function checkPath(path: string): void {
    for (const name of ["read", "write"] as const) {
      if (isGranted(name, { path })) continue;
      const folder = path.slice(0, path.lastIndexOf("/")) || ".";
      throw new ReloadError("permission", `Deno does not allow this process to use ${path}: add --allow-${name}=${folder}`);
    }
  }

  const service = isMainThread
    ? denoService(deno, loaded, (command) => isGranted("run", { command }), checkPath, hasAll && hasProc, supervisor)
    : undefined;

  return {
    ...clock,
    ...platformSignals(deno.build.os === "windows" ? "win32" : deno.build.os),
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
        checkPath(channelPath);
        return { generation, channel: connectChannel(deno, channelPath) };
      }
      const predecessor = inheritedChannel((globalThis as unknown as { process: NodeProcess }).process, generation);
      if (predecessor !== undefined && deno.build.os === "windows" && isGranted("ffi", { path: KERNEL })) {
        attachConsole(deno.ppid, () => {
          const { symbols } = deno.dlopen(KERNEL, { AttachConsole: { parameters: ["u32"], result: "i32" } });
          return symbols as unknown as { AttachConsole(pid: number): number };
        });
      }
      return predecessor && { ...predecessor, channel: watch(predecessor.channel) };
    },
    warmUp() {
      // Deno loads what they take at the first use: 4 and 7 ms.
      void deno.Command;
      clearTimeout(setTimeout(() => {}));
    },
    async start(request) {
      const { command, signal } = request;
      const current = environmentFor(command?.slice(0, 1) ?? [execPath, "deno"]);
      if (command === undefined) {
        origin ??= hasProc && !standalone ? await askHelper(signal) : { command: rebuild(), started: undefined };
      }
      const shell = isGranted("run", { command: SHELL }) ? SHELL : undefined;
      // `reload-self run` would take the end of this process for the end of the program.
      if (request.how === "guarded" && shell === undefined) throw notAllowed(SHELL);
      signal.throwIfAborted();
      const what = command === undefined ? sameAgain() : asCommandLine(command);
      checkFiles(what.file);
      // Whoever may run only this executable may not signal process groups; Deno would ask on the terminal.
      const kill = (pid: number, signal: string) => {
        if (!isGranted("run")) throw new ReloadError("permission", "not allowed to signal a process group");
        deno.kill(pid, signal);
      };
      const sockets = activation.inherit();
      if (mayCall() && servesPath) closeOnExec(deno, ownSockets());
      const folder = command === undefined && !request.sendsSockets && sockets.length === 0 ? service?.ownFolder() : undefined;
      const spawn = (folder !== undefined && spawnWithDeno(deno, folder)) ||
        spawnWithNode(await import("node:child_process"), sockets);
      signal.throwIfAborted();
      const history = { started: origin?.started, loaded, current };
      const plan = { pid: deno.pid, spawn, kill, what, cwd, history, request, sockets: sockets.length, shell };
      const started = await startSuccessor(plan);
      if (mayCall()) { for (const fd of sockets) if (fd !== "ignore") setNonBlocking(deno, fd); }
      return started;
    },
    exit: (code) => deno.exit(code),
    service,
    sockets: {
      activated: activation.activated,
      listen: activation.listen,
      serve: serveOnDeno(deno),
      files: () => Promise.resolve(denoFiles(deno, checkPath)),
      isServed: (path) => isServedOnDeno(deno, path),
      descriptors,
      sendsHandles: deno.build.os !== "windows", // ERR_INVALID_HANDLE_TYPE
      cutsAnswers: true, // Deno 2.9: [kMaybeDestroy] in ext/node/polyfills/http2.ts counts streams, not what is to be sent.
      libc: hasProc && mayListen() ? () => Promise.resolve(denoLibc(deno, mayCall())) : undefined,
    },
  };
}
