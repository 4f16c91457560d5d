import type { Environment } from "./environment.ts";

/** A command line. */
export interface CommandLine {
  /** The path of the executable. */
  file: string;
  /** The name that the program is started under, where it differs from the path. */
  argv0?: string;
  /** The arguments after the executable. */
  args: readonly string[];
}

/** A command line from the `command` of an application. */
export function asCommandLine([file, ...args]: readonly string[]): CommandLine {
  return { file: file as string, args };
}

/** The path without symbolic links; `undefined` where it cannot be resolved. */
export type RealPath = (path: string) => string | undefined;

/** Reads /proc/PID/cmdline; see proc_pid_cmdline(5). */
export function parseCmdline(text: string): string[] {
  if (text === "") return [];
  return (text.endsWith("\0") ? text.slice(0, -1) : text).split("\0");
}

/**
 * Whether this is the command line that the process was started with. On Node and Deno
 * `process.title` overwrites it in place and fills the rest with zeros, which read as empty
 * arguments (uv_set_process_title).
 *
 * @param argv0 The name that the process was started under, where the runtime knows it.
 */
export function isGenuine(fields: readonly string[], argv0: string | undefined): boolean {
  return argv0 !== undefined ? fields[0] === argv0 : fields.slice(1).some((field) => field !== "");
}

/**
 * The executable as it was typed: a path through symbolic links, or a name on the search path. When
 * a deploy flips the link, the path leads to the new executable. Falls back to the path of the
 * runtime.
 */
export function typedExecutable(
  argv0: string,
  execPath: string,
  directory: string | undefined,
  searchPath: string | undefined,
  realPath: RealPath,
): string {
  if (argv0 === "" || argv0 === execPath) return execPath;
  const real = realPath(execPath);
  if (real === undefined) return execPath;
  const candidates = argv0.includes("/")
    ? [argv0]
    : (searchPath ?? "").split(":").map((entry) => `${entry || "."}/${argv0}`);
  for (const candidate of candidates) {
    if (!candidate.startsWith("/") && directory === undefined) continue;
    const path = candidate.startsWith("/") ? candidate : `${directory}/${candidate}`;
    const found = realPath(path);
    if (found === real) return path;
    // Another program of this name comes first.
    if (found !== undefined && !argv0.includes("/")) break;
  }
  return execPath;
}

/**
 * The working directory as it was typed, often a symbolic link to the current release. The kernel
 * knows only its target. A variable that names it is used when it has the same target: a shell sets
 * `PWD`, and npm, which sets `PWD` to the target of `--prefix`, has another one.
 */
export function typedDirectory(
  { PWD, npm_config_local_prefix }: Environment,
  cwd: string,
  realPath: RealPath,
): string {
  const isTyped = (path: string) =>
    path.startsWith("/") && path !== cwd && realPath(path) === (realPath(cwd) ?? cwd);
  return [PWD, npm_config_local_prefix].find((path) => path !== undefined && isTyped(path)) ?? cwd;
}

/** How Node and Bun were started, as far as they know. */
export interface ProcessFacts {
  /** `process.execPath` */
  execPath: string;
  /** `process.execArgv` */
  execArgv: readonly string[];
  /** `process.argv` */
  argv: readonly string[];
}

/**
 * The command line from what Node and Bun know, where the kernel does not show it. The script's
 * path is absolute there; it is put back under the working directory as it was typed.
 */
export function rebuildCommandLine(
  { execPath, execArgv, argv }: ProcessFacts,
  cwd: string,
  typed: string,
): CommandLine {
  const [script, ...args] = argv.slice(1);
  if (script === undefined) return { file: execPath, args: execArgv };
  // A single executable: the script is a path in its own file system (`bun build --compile`), or
  // the executable itself (Node).
  if (
    script === execPath || script.startsWith("/$bunfs/") || /^[A-Z]:[/\\]~BUN[/\\]/.test(script)
  ) {
    return { file: execPath, args };
  }
  const inside = script.startsWith(`${cwd}/`) ? typed + script.slice(cwd.length) : script;
  return { file: execPath, args: [...execArgv, inside, ...args] };
}
