import { ReloadError } from "../../src/core/error.ts";
import { attempt } from "../../src/core/attempt.ts";
import {
  type CommandLine,
  type Files,
  isGenuine,
  parseCmdline,
  typedDirectory,
  typedExecutable,
} from "../shared/command_line.ts";
import { type Environment, parseEnviron, type Snapshot } from "../shared/environment.ts";
import type { NodeProcess } from "../shared/node_channel.ts";
import { withFreeInspector } from "../shared/inspector.ts";
import { startError } from "../shared/node_process.ts";
import type { DenoFileInfo, DenoNamespace } from "./namespace.ts";
import { hasProc, type Permissions } from "./permissions.ts";

/** How this program was started. */
export interface Origin {
  /** The names under which `--allow-run` may allow the executable: first the one that was typed. */
  names(): string[];
  /** The working directory as it was typed. */
  readonly cwd: string;
  /** The environment at the start of the process; `undefined` where it is not known. */
  readonly started: Environment | undefined;
  /** The command line that starts the same program again. Throws a ReloadError that says why it is not known, and what to do. */
  sameAgain(signal: AbortSignal): Promise<CommandLine>;
  /** Throws the error of a start that is going to fail, as far as that can be seen. */
  checkFiles(file: string): void;
}

interface Facts {
  command: CommandLine | undefined;
  started: Environment | undefined;
}

/**
 * Finds out how this program was started. With all permissions it is known now, because a deploy flips links; otherwise it is found out when
 * it is needed.
 */
export function createOrigin(deno: DenoNamespace, permissions: Permissions, snapshot: Snapshot): Origin {
  const { loaded } = snapshot;
  const { standalone } = deno.build;
  const execPath = deno.execPath().replace(/ \(deleted\)$/, "");
  const files: Files = {
    realPath: (path) => permissions.isGranted("read", { path }) ? attempt(() => deno.realPathSync(path)) : undefined,
  };
  const cwd = typedDirectory(loaded.PWD, snapshot.cwd, files);
  let facts = permissions.seesProc ? parse(snapshot.cmdline, snapshot.environ) : undefined;

  function parse(cmdline: string | undefined, environ: string | undefined): Facts {
    return { command: parseCommand(cmdline ?? ""), started: environ === undefined ? undefined : parseEnviron(environ) };
  }

  function parseCommand(cmdline: string): CommandLine | undefined {
    if (standalone) return { file: execPath, args: deno.args };
    const [argv0 = "", ...args] = parseCmdline(cmdline);
    if (!isGenuine([argv0, ...args], undefined)) return undefined;
    return { file: typedExecutable(argv0, execPath, cwd, loaded.PATH, files), argv0, args };
  }

  /**
   * Deno compares an executable with what `--allow-run` found on the search path, and resolves no link: where `deno` is a link (Homebrew,
   * asdf, mise), that path is allowed and the executable that it leads to is not. Nothing that was not allowed is started this way.
   */
  function names(): string[] {
    // The one that tells it without a permission. It takes 20 ms to load.
    const { argv0 } = (globalThis as unknown as { process: NodeProcess }).process;
    const typed = argv0.includes("/") && !argv0.startsWith("/") ? `${snapshot.cwd}/${argv0}` : argv0;
    return [typed, execPath, ...(standalone ? [] : ["deno"])].filter((name) => name !== "");
  }

  /**
   * With fewer than all permissions Deno hides its own command line from the program, and does not say to which values its permissions are
   * restricted. A second Deno may read it: the very executable that is to be started. It does nothing else.
   */
  async function askHelper(signal: AbortSignal): Promise<Facts> {
    const code = `const read = (name) => Deno.readTextFileSync("/proc/${deno.pid}/" + name);` +
      `console.log(JSON.stringify([read("cmdline"), read("environ")]));`;
    const helper = new deno.Command(permissions.runnable(names()), {
      args: ["eval", "--no-config", "--no-lock", code],
      cwd: "/", // Deno starts nothing in a directory that was removed, as that of this process may be.
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
    return parse(cmdline, environ);
  }

  /** The command line where there is no /proc. Flags that are not permissions are lost: `command` is for them. */
  function rebuild(): CommandLine | undefined {
    if (standalone) return { file: execPath, args: deno.args };
    const flags = permissions.flags();
    const script = deno.mainModule.startsWith("file:")
      ? decodeURIComponent(new URL(deno.mainModule).pathname).replace(/^\/(?=[A-Za-z]:)/, "")
      : deno.mainModule;
    return flags && { file: execPath, args: ["run", ...flags, script, ...deno.args] };
  }

  function problem(path: string, isRight: (info: DenoFileInfo) => boolean): string | undefined {
    if (!permissions.isGranted("read", { path })) return undefined;
    try {
      return isRight(deno.statSync(path)) ? undefined : "EACCES";
    } catch (error) {
      return error instanceof Error && error.name === "NotFound" ? "ENOENT" : undefined;
    }
  }

  return {
    names,
    cwd,
    get started() {
      return facts?.started;
    },
    async sameAgain(signal) {
      facts ??= hasProc(deno) && !standalone ? await askHelper(signal) : { command: rebuild(), started: undefined };
      const { command } = facts;
      if (command === undefined) {
        const why = hasProc(deno)
          ? "process.title overwrote it. Set it after @js0/reload-self is imported"
          : `on ${deno.build.os} Deno does not say to which values its permissions are restricted. Do not restrict them to values`;
        throw new ReloadError("start", `the command line of this process is not known: ${why}, or give listen() a \`command\``);
      }
      const args = withFreeInspector(command.args, deno.args.length);
      return { ...command, args, file: permissions.runnable([command.file, ...names()]) };
    },
    // Deno 2.9 leaks the socket of the channel when the process cannot be started, one for each such reload.
    checkFiles(file) {
      if (!file.includes("/")) return;
      const code = problem(file, ({ isFile, mode }) => isFile && (mode === null || (mode & 0o111) !== 0)) ??
        problem(cwd, ({ isDirectory }) => isDirectory);
      if (code !== undefined) throw startError(file, cwd, Object.assign(new Error(code), { code }));
    },
  };
}
