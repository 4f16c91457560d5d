import type { Adapter } from "../core/adapter.ts";
import { ReloadError } from "../core/error.ts";
import { handshake, takeGeneration } from "./arrival.ts";
import { clock } from "./clock.ts";
import {
  type CommandLine,
  type Files,
  isGenuine,
  parseCmdline,
  rebuildCommandLine,
  typedDirectory,
  typedExecutable,
} from "./command_line.ts";
import { type Environment, parseEnviron, successorEnvironment } from "./environment.ts";
import { inheritedChannel, type NodeProcess, startDetached } from "./node_process.ts";
import { platformSignals } from "./signals.ts";

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
export function createNodeAdapter(process: NodeProcess, runtime: string, isMainThread: boolean): Adapter {
  const { env } = process;
  const generation = isMainThread
    ? takeGeneration({ get: (name) => env[name], delete: (name) => delete env[name] })
    : undefined;
  const loaded = { ...env };
  // Now, not when it is needed: a title overwrites the command line, and a deploy flips the links that it leads through.
  const origin = isMainThread ? findOrigin() : undefined;

  function findOrigin(): Origin {
    const fs = process.getBuiltinModule("node:fs");
    const attempt = <T>(work: () => T): T | undefined => {
      try {
        return work();
      } catch {
        return undefined; // No /proc, no permission, no such file: there is a less exact way for each.
      }
    };
    const files: Files = { realPath: (path) => attempt(() => fs.realpathSync(path)) };
    const read = (path: string) => attempt(() => fs.readFileSync(path, "utf8"));

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
    predecessor: () => generation === undefined ? undefined : inheritedChannel(process, generation),
    async start({ command, env, generation, signal }) {
      const module = await import("node:child_process");
      signal.throwIfAborted();
      if (origin === undefined) throw new ReloadError("unsupported", "a worker thread cannot be reloaded");
      const { command: same, cwd, started } = origin;
      const [file, ...args] = command ?? [];
      const what = file === undefined ? same : { file, args };
      const variables = {
        ...successorEnvironment({ started, loaded, current: process.env }),
        ...env,
        ...handshake(generation),
      };
      try {
        return await startDetached(module, (pid, signal) => process.kill(pid, signal), what, cwd, variables);
      } catch (cause) {
        throw startError(what.file, cwd, cause);
      }
    },
    exit: (code) => process.exit(code),
  };
}

/** What can be told of a start that failed: the runtimes name the executable also when it is the directory that is missing. */
export function startError(file: string, cwd: string | undefined, cause: unknown): ReloadError {
  const code = (cause as { code?: unknown } | null)?.code;
  const where = `${file} in ${cwd ?? "the working directory"}`;
  const why: Record<string, string> = {
    ENOENT: "there is no such executable, or no such directory",
    EACCES: "it is not executable, or the directory cannot be entered",
    EMFILE: "this process has no file descriptors left",
    ENFILE: "the system has no file descriptors left",
    EAGAIN: "the limit of processes is reached",
    ENOMEM: "there is not enough memory",
    E2BIG: "the arguments and the environment are too long",
    ERR_ACCESS_DENIED: "Node's permission model forbids it: add --allow-child-process",
  };
  const reason = (typeof code === "string" ? why[code] : undefined) ?? (cause instanceof Error ? cause.message : String(cause));
  return new ReloadError(code === "ERR_ACCESS_DENIED" ? "permission" : "start", `${where} cannot be started: ${reason}`, {
    cause,
  });
}
