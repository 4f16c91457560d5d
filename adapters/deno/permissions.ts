import { ReloadError } from "../../src/core/error.ts";
import { LIBRARIES } from "../shared/libc.ts";
import type { DenoNamespace } from "./namespace.ts";

/** Deno's permissions, by the names of their flags. */
export const PERMISSIONS = ["read", "write", "net", "env", "sys", "run", "ffi", "import"] as const;

/** The name of a permission. */
export type Permission = (typeof PERMISSIONS)[number];

/** The state of a whole permission, as `Deno.permissions.query` returns it. */
export interface PermissionState {
  /** `"granted"`, `"denied"`, or `"prompt"` for a permission that was not mentioned. */
  readonly state: string;
  /** Whether it is granted for some values only. Deno does not say for which. */
  readonly partial?: boolean;
}

/** What a permission is asked for. */
export interface PermissionValue {
  readonly path?: string;
  readonly command?: string;
  readonly host?: string;
}

/**
 * The flags that give a process these permissions and not one more. `undefined` when some are
 * restricted to values: Deno does not say to which, and a guess would either be wider or break the
 * program.
 */
export function permissionFlags(
  states: Readonly<Record<Permission, PermissionState>>,
): string[] | undefined {
  if (PERMISSIONS.some((name) => states[name].partial)) return undefined;
  if (PERMISSIONS.every((name) => states[name].state === "granted")) return ["--allow-all"];
  return PERMISSIONS.flatMap((name) => {
    if (states[name].state === "granted") return [`--allow-${name}`];
    // By default some hosts may be imported from.
    return states[name].state === "denied" || name === "import" ? [`--deny-${name}`] : [];
  });
}

/**
 * The permissions of this process. Nothing here makes Deno ask on the terminal: what is not granted
 * is an error that names the flag.
 */
export interface Permissions {
  /**
   * Whether all permissions are granted. Deno opens /proc and files of other programs only then.
   */
  readonly hasAll: boolean;
  /** Whether this process can see /proc. */
  readonly seesProc: boolean;
  isGranted(name: Permission, what?: PermissionValue): boolean;
  /**
   * Whether this process may listen on the loopback interface, where a new process opens its
   * servers.
   */
  mayListen(): boolean;
  /** Whether this process may call the C library. */
  mayCall(): boolean;
  /** Throws unless this path may be read and written. */
  checkPath(path: string): void;
  /** The first of these executables that may be run; throws where none may. */
  runnable(files: readonly string[]): string;
  /**
   * The environment for a new process; throws unless it may be read and one of these executables
   * may be run with it.
   */
  environmentFor(files: readonly string[]): Record<string, string>;
  /** The permissions as flags, or `undefined` where that is not possible. */
  flags(): string[] | undefined;
}

/** Tells whether this process has a permission. */
function createQuery(deno: DenoNamespace): Permissions["isGranted"] {
  /** Where the search path may lead from a name. */
  function pathsOf(command: string): string[] {
    if (command.includes("/") || !isGranted("env")) return [];
    const folders = deno.env.get("PATH")?.split(":") ?? [];
    return folders.filter((folder) => folder.startsWith("/")).map((folder) =>
      `${folder}/${command}`
    );
  }
  function isGranted(name: Permission, what: PermissionValue = {}): boolean {
    try {
      const { state, partial } = deno.permissions.querySync({ name, ...what });
      return state === "granted" && !partial;
    } catch {
      // Deno resolves a name against the working directory, and throws where that was removed. Its
      // path is no such name.
      return isGranted(name) ||
        (what.command !== undefined &&
          pathsOf(what.command).some((command) => isGranted(name, { command })));
    }
  }
  return isGranted;
}

/** Asks for the permissions of this process. */
export function createPermissions(deno: DenoNamespace): Permissions {
  const isGranted = createQuery(deno);
  const mayRun = (command: string) => isGranted("run", { command });

  const hasAll = PERMISSIONS.every((name) => isGranted(name));

  return {
    hasAll,
    seesProc: hasAll && hasProc(deno),
    isGranted,
    mayListen: () => isGranted("net", { host: "127.0.0.1:0" }),
    mayCall: () => LIBRARIES.some((path) => isGranted("ffi", { path })),
    checkPath(path) {
      for (const name of ["read", "write"] as const) {
        if (isGranted(name, { path })) continue;
        const folder = path.slice(0, path.lastIndexOf("/")) || ".";
        throw new ReloadError(
          "permission",
          `Deno does not allow this process to use ${path}: add --allow-${name}=${folder}`,
        );
      }
    },
    runnable(files) {
      const file = files.find(mayRun);
      if (file === undefined) throw notRunnable(files[0] as string);
      return file;
    },
    environmentFor(files) {
      const env = isGranted("env") ? deno.env.toObject() : undefined;
      if (!files.some(mayRun)) {
        throw notRunnable(files[0] as string, env === undefined ? " --allow-env" : "");
      }
      if (env === undefined) {
        throw new ReloadError(
          "permission",
          "Deno does not allow this process to hand its environment on: add --allow-env",
        );
      }
      // https://docs.deno.com/go/permission-env: such a variable could make the allowed executable
      // run anything.
      const loader = Object.keys(env).find((name) => /^(LD|DYLD)_/.test(name));
      if (loader === undefined || isGranted("run")) return env;
      const what = `Deno does not allow this process to start another while ${loader} is set`;
      throw new ReloadError(
        "permission",
        `${what}: add --allow-run (without a list), or unset ${loader}`,
      );
    },
    flags() {
      const states = Object.fromEntries(
        PERMISSIONS.map((name) => [name, deno.permissions.querySync({ name })]),
      );
      return permissionFlags(states as Record<Permission, PermissionState>);
    },
  };
}

/** Whether this system has a /proc like Linux's. */
export function hasProc({ build: { os } }: DenoNamespace): boolean {
  return os === "linux" || os === "android";
}

/** The error for an executable that may not be run. */
export function notRunnable(file: string, more: string = ""): ReloadError {
  return new ReloadError(
    "permission",
    `Deno does not allow this process to start ${file}: add --allow-run=${file}${more}`,
  );
}
