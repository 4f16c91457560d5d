/**
 * A debugger of the new process. The old one has its port until it ends: on Deno and Bun the new
 * process would not start, on Node it would have no debugger. It gets a free port, which the
 * runtime writes to stderr, and waits for nobody.
 */
import type { Environment } from "./environment.ts";

/** A free port instead of the one in `host:port/path`, each part of which may be missing. */
function onFreePort(address: string): string {
  const match = /^(\[[^\]]*\]|[^:/[\]]*)(?::\d*)?(\/.*)?$/.exec(address);
  // Bun also takes a URL, of a unix socket too.
  if (match === null || address.includes("://")) return "0";
  const [, host = "", path = ""] = match;
  return `${host === "" || /^\d+$/.test(host) ? "0" : `${host}:0`}${path}`;
}

function freed(option: string): string {
  const [, name, address = ""] =
    /^--(inspect(?:[-_](?:brk|wait))?|(?:inspect|debug)[-_]port)(?:=(.*))?$/s.exec(option) ?? [];
  if (name === undefined) return option;
  return `--${/port$/.test(name) ? name : "inspect"}=${onFreePort(address)}`;
}

/**
 * The arguments with a free port for the debugger.
 *
 * @param ofProgram How many of them, at the end, belong to the program.
 */
export function withFreeInspector(args: readonly string[], ofProgram: number): string[] {
  const end = args.length - ofProgram;
  return args.map((arg, i) => i < end ? freed(arg) : arg);
}

/**
 * The variables that would start a debugger on a port that is taken, with a free one. Bun does not
 * say where that of BUN_INSPECT is.
 */
export function freeInspectorVariables(env: Environment): Environment {
  const changed: Environment = {};
  for (const name of ["NODE_OPTIONS", "BUN_OPTIONS"]) {
    const options = env[name];
    if (options?.includes("inspect")) {
      changed[name] = options.replace(/(?<=^|[\s"])--[^\s"]+/g, freed);
    }
  }
  if (env.BUN_INSPECT !== undefined) changed.BUN_INSPECT = undefined;
  return changed;
}

/** Where a debugger listens that was asked for without a port: Node and Deno, Bun. */
const DEFAULT_PORTS = [9229, 6499];

/**
 * The ports on which the debugger of this process listens, as far as they are known. It is not a
 * server of the program.
 *
 * @param args Those of the runtime, and perhaps of the program.
 * @param url The value of BUN_INSPECT.
 */
export function debuggerPorts(args: readonly string[], url?: string): Set<number> {
  const addresses = args.filter((arg) => /^--inspect/.test(arg)).map((arg) =>
    arg.replace(/^[^=]*=?/, "")
  );
  if (url !== undefined) addresses.push(url.replace(/^\w+:\/\//, ""));
  return new Set(addresses.flatMap((address) => {
    const port = /(?:^|:)(\d+)(?:\/|$)/.exec(address)?.[1];
    return port === undefined ? DEFAULT_PORTS : [Number(port)];
  }));
}
