import { ReloadError } from "../../src/core/error.ts";
import { attempt } from "../../src/core/attempt.ts";
import {
  type CommandLine,
  isGenuine,
  parseCmdline,
  type RealPath,
  typedDirectory,
  typedExecutable,
} from "../shared/command_line.ts";
import { type Environment, parseEnviron, type Snapshot } from "../shared/environment.ts";
import type { NodeProcess } from "../shared/node_channel.ts";
import { withFreeInspector } from "../shared/inspector.ts";
import { startError } from "../shared/node_process.ts";
import type { DenoFileInfo, DenoNamespace } from "./namespace.ts";
import { hasProc, type Permissions } from "./permissions.ts";

interface Facts {
  command: CommandLine | undefined;
  started: Environment | undefined;
}

/**
 * How this program was started. With all permissions it is known now, because a deploy flips links;
 * otherwise it is found out when it is needed.
 */
export class Origin {
  readonly #deno: DenoNamespace;
  readonly #permissions: Permissions;
  readonly #snapshot: Snapshot;
  readonly #execPath: string;
  readonly #realPath: RealPath;
  #facts: Facts | undefined;
  /** The working directory as it was typed. */
  readonly cwd: string;

  /** Looks, as far as the permissions go. */
  constructor(deno: DenoNamespace, permissions: Permissions, snapshot: Snapshot) {
    this.#deno = deno;
    this.#permissions = permissions;
    this.#snapshot = snapshot;
    this.#execPath = deno.execPath().replace(/ \(deleted\)$/, "");
    this.#realPath = (path) =>
      permissions.isGranted("read", { path }) ? attempt(() => deno.realPathSync(path)) : undefined;
    this.cwd = typedDirectory(snapshot.loaded, snapshot.cwd, this.#realPath);
    if (permissions.seesProc) this.#facts = this.#parse(snapshot.cmdline, snapshot.environ);
  }

  /** The environment at the start of the process; `undefined` where it is not known. */
  get started(): Environment | undefined {
    return this.#facts?.started;
  }

  /**
   * The names under which `--allow-run` may allow the executable: first the one that was typed.
   * Deno compares an executable with what `--allow-run` found on the search path, and resolves no
   * link: where `deno` is a link (Homebrew, asdf, mise), that path is allowed and the executable
   * that it leads to is not. Nothing that was not allowed is started this way.
   */
  names(): string[] {
    // The one that tells it without a permission. It takes 20 ms to load.
    const { argv0 } = (globalThis as unknown as { process: NodeProcess }).process;
    const typed = argv0.includes("/") && !argv0.startsWith("/")
      ? `${this.#snapshot.cwd}/${argv0}`
      : argv0;
    return [typed, this.#execPath, ...(this.#deno.build.standalone ? [] : ["deno"])].filter((
      name,
    ) => name !== "");
  }

  /**
   * The command line that starts the same program again. Throws a ReloadError that says why it is
   * not known, and what to do.
   */
  async sameAgain(signal: AbortSignal): Promise<CommandLine> {
    const { args, build } = this.#deno;
    this.#facts ??= hasProc(this.#deno) && !build.standalone
      ? await this.#askHelper(signal)
      : { command: this.#rebuild(), started: undefined };
    const { command } = this.#facts;
    if (command === undefined) {
      const why = hasProc(this.#deno)
        ? "process.title overwrote it. Set it after @js0/reload-self is imported"
        : `on ${build.os} Deno does not say to which values its permissions are restricted. Do not restrict them to values`;
      throw new ReloadError(
        "start",
        `the command line of this process is not known: ${why}, or give listen() a \`command\``,
      );
    }
    const file = this.#permissions.runnable([command.file, ...this.names()]);
    return { ...command, args: withFreeInspector(command.args, args.length), file };
  }

  /**
   * Throws the error of a start that is going to fail, as far as that can be seen. Deno 2.9 leaks
   * the socket of the channel when the process cannot be started, one for each such reload.
   */
  checkFiles(file: string): void {
    if (!file.includes("/")) return;
    const code = this.#problem(
      file,
      ({ isFile, mode }) => isFile && (mode === null || (mode & 0o111) !== 0),
    ) ??
      this.#problem(this.cwd, ({ isDirectory }) => isDirectory);
    if (code !== undefined) {
      throw startError(file, this.cwd, Object.assign(new Error(code), { code }));
    }
  }

  #parse(cmdline: string | undefined, environ: string | undefined): Facts {
    return {
      command: this.#parseCommand(cmdline ?? ""),
      started: environ === undefined ? undefined : parseEnviron(environ),
    };
  }

  #parseCommand(cmdline: string): CommandLine | undefined {
    if (this.#deno.build.standalone) return { file: this.#execPath, args: this.#deno.args };
    const [argv0 = "", ...args] = parseCmdline(cmdline);
    if (!isGenuine([argv0, ...args], undefined)) return undefined;
    return {
      file: typedExecutable(
        argv0,
        this.#execPath,
        this.cwd,
        this.#snapshot.loaded.PATH,
        this.#realPath,
      ),
      argv0,
      args,
    };
  }

  /**
   * With fewer than all permissions Deno hides its own command line from the program, and does not
   * say to which values its permissions are restricted. A second Deno may read it: the very
   * executable that is to be started. It does nothing else.
   */
  async #askHelper(signal: AbortSignal): Promise<Facts> {
    const code =
      `const read = (name) => Deno.readTextFileSync("/proc/${this.#deno.pid}/" + name);` +
      `console.log(JSON.stringify([read("cmdline"), read("environ")]));`;
    const helper = new this.#deno.Command(this.#permissions.runnable(this.names()), {
      args: ["eval", "--no-config", "--no-lock", code],
      // Deno starts nothing in a directory that was removed, as that of this process may be.
      cwd: "/",
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
      signal,
    });
    const { success, stdout, stderr } = await helper.output();
    const text = new TextDecoder();
    if (!success) {
      throw new ReloadError(
        "start",
        `the command line of this process cannot be read: ${text.decode(stderr).trim()}`,
      );
    }
    const [cmdline, environ] = JSON.parse(text.decode(stdout));
    return this.#parse(cmdline, environ);
  }

  /**
   * The command line where there is no /proc. Flags that are not permissions are lost: `command` is
   * for them.
   */
  #rebuild(): CommandLine | undefined {
    const { args, build, mainModule } = this.#deno;
    if (build.standalone) return { file: this.#execPath, args };
    const flags = this.#permissions.flags();
    const script = mainModule.startsWith("file:")
      ? decodeURIComponent(new URL(mainModule).pathname).replace(/^\/(?=[A-Za-z]:)/, "")
      : mainModule;
    return flags && { file: this.#execPath, args: ["run", ...flags, script, ...args] };
  }

  #problem(path: string, isRight: (info: DenoFileInfo) => boolean): string | undefined {
    if (!this.#permissions.isGranted("read", { path })) return undefined;
    try {
      return isRight(this.#deno.statSync(path)) ? undefined : "EACCES";
    } catch (error) {
      return error instanceof Error && error.name === "NotFound" ? "ENOENT" : undefined;
    }
  }
}
