/** What starts a program. */
export interface CommandLine {
  /** The path of the executable. */
  file: string;
  /** The name it is started under, where that is known to differ. */
  argv0?: string;
  /** What follows the executable. */
  args: readonly string[];
}

/** The command line that an application asks for. */
export function asCommandLine([file, ...args]: readonly string[]): CommandLine {
  return { file: file as string, args };
}

/** The questions about files that telling a command line takes. A file that cannot be looked at is `undefined`. */
export interface Files {
  /** The path without symbolic links. */
  realPath(path: string): string | undefined;
}

/** Reads /proc/PID/cmdline; see proc_pid_cmdline(5). */
export function parseCmdline(text: string): string[] {
  if (text === "") return [];
  return (text.endsWith("\0") ? text.slice(0, -1) : text).split("\0");
}

/**
 * Is this the command line that the process was started with? On Node and Deno setting `process.title` overwrites it in place,
 * and what the title does not fill is zeroed, which reads as empty arguments (uv_set_process_title).
 *
 * @param argv0 The name that the process was started under, where the runtime tells it.
 */
export function isGenuine(fields: readonly string[], argv0: string | undefined): boolean {
  return argv0 !== undefined ? fields[0] === argv0 : fields.slice(1).some((field) => field !== "");
}

/**
 * The executable as it was typed: a path through symbolic links, or found on the search path. A link that is flipped later, as
 * a deploy does it, leads to the new executable then. Falls back to the path that the runtime tells.
 */
export function typedExecutable(
  argv0: string,
  execPath: string,
  directory: string | undefined,
  searchPath: string | undefined,
  files: Files,
): string {
  if (argv0 === "" || argv0 === execPath) return execPath;
  const real = files.realPath(execPath);
  if (real === undefined) return execPath;
  const candidates = argv0.includes("/") ? [argv0] : (searchPath ?? "").split(":").map((entry) => `${entry || "."}/${argv0}`);
  for (const candidate of candidates) {
    if (!candidate.startsWith("/") && directory === undefined) continue;
    const path = candidate.startsWith("/") ? candidate : `${directory}/${candidate}`;
    const found = files.realPath(path);
    if (found === real) return path;
    if (found !== undefined && !argv0.includes("/")) break; // Another program of that name comes first.
  }
  return execPath;
}

/**
 * The working directory as it was typed, which is a symbolic link where releases are switched by one. The kernel knows only
 * where it led to; the shell's `PWD` is believed when it leads there too.
 */
export function typedDirectory(pwd: string | undefined, cwd: string, files: Files): string {
  if (pwd === undefined || !pwd.startsWith("/") || pwd === cwd) return cwd;
  const real = files.realPath(pwd);
  return real !== undefined && real === files.realPath(cwd) ? pwd : cwd;
}

/** What Node and Bun tell about how they were started. */
export interface ProcessFacts {
  /** `process.execPath` */
  execPath: string;
  /** `process.execArgv` */
  execArgv: readonly string[];
  /** `process.argv` */
  argv: readonly string[];
}

/**
 * The command line from what Node and Bun tell, for where the kernel does not. The script's path is absolute there, so it is
 * put back under the working directory as it was typed.
 */
export function rebuildCommandLine({ execPath, execArgv, argv }: ProcessFacts, cwd: string, typed: string): CommandLine {
  const [script, ...args] = argv.slice(1);
  if (script === undefined) return { file: execPath, args: execArgv };
  // A single executable: `bun build --compile` shows a path in its own file system, Node's shows itself.
  if (script === execPath || script.startsWith("/$bunfs/") || /^[A-Z]:[/\\]~BUN[/\\]/.test(script)) {
    return { file: execPath, args };
  }
  const inside = script.startsWith(`${cwd}/`) ? typed + script.slice(cwd.length) : script;
  return { file: execPath, args: [...execArgv, inside, ...args] };
}
