/** The arguments of `server.listen()` of node:net, in all their forms. */
import type { BindOptions } from "../../src/core/token.ts";

/** What a call of `listen` asks for. */
export interface ListenRequest {
  /** Where, for `token.bind()`; `undefined` where the server is left alone. */
  readonly options: BindOptions | undefined;
  /** Whether the server is left alone because its address is the process's own. */
  readonly isPrivate: boolean;
  readonly signal: AbortSignal | undefined;
  readonly callback: (() => void) | undefined;
}

type Options = Readonly<Record<string, unknown>>;

const toNumber = (value: unknown) =>
  typeof value === "string" && value !== "" && Number(value) >= 0 ? Number(value) : value;

/** The options of a call, as net._normalizeArgs of Node has them. */
function optionsOf(args: readonly unknown[]): Options {
  const [first, second, third] = args;
  if (typeof first === "object" && first !== null) return first as Options;
  const place = toNumber(first);
  if (typeof place === "string") return { path: place, backlog: toNumber(second) };
  const host = typeof second === "string" && typeof toNumber(second) === "string"
    ? second
    : undefined;
  return {
    port: typeof place === "function" ? undefined : place,
    host,
    backlog: host === undefined ? toNumber(second) : third,
  };
}

/**
 * Whether a unix socket is a process's own: nobody outside can know a name in which its pid is, and
 * another process would have another. Nor has a socket of Linux's abstract names, or a pipe of
 * Windows, a file that could be replaced.
 */
export function isPrivatePath(path: string, pid: number): boolean {
  return path === "" || path.startsWith("\0") || path.startsWith("\\\\") ||
    new RegExp(`(?<!\\d)${pid}(?!\\d)`).test(path);
}

/** Whether an address is the process's own: a path as above, or a port that the kernel chooses. */
export function isPrivateAddress(path: unknown, port: unknown, pid: number): boolean {
  return typeof path === "string" && path !== ""
    ? isPrivatePath(path, pid)
    : port !== undefined && Number(port) === 0;
}

/** Reads the arguments. A port of 0 is the process's own as well: nobody outside can know it. */
export function readListenArguments(args: readonly unknown[], pid: number): ListenRequest {
  const options = optionsOf(args);
  const last = args.at(-1);
  const callback = typeof last === "function" ? last as () => void : undefined;
  const signal = options.signal instanceof AbortSignal ? options.signal : undefined;
  const isPrivate = !isOpened(options) && isPrivateAddress(options.path, options.port ?? 0, pid);
  return { options: placeOf(options, pid), isPrivate, signal, callback };
}

/** Whether they name a socket that is open already. */
function isOpened(options: Options): boolean {
  return "_handle" in options || "handle" in options || typeof options.fd === "number";
}

function placeOf(options: Options, pid: number): BindOptions | undefined {
  const { host, backlog, ipv6Only, reusePort, readableAll, writableAll, path } = options;
  if (isOpened(options)) return undefined;
  const more = {
    ...(typeof backlog === "number" && { backlog }),
    ...(ipv6Only === true && { ipv6Only }),
    ...(reusePort === true && { reusePort }),
    ...(readableAll === true && { readableAll }),
    ...(writableAll === true && { writableAll }),
  };
  const port = toNumber(options.port);
  if (port === undefined && typeof path === "string") {
    return isPrivatePath(path, pid) ? undefined : { path, ...more };
  }
  // What is wrong is left to the runtime, which says so.
  if (typeof port !== "number" || !Number.isInteger(port) || port <= 0 || port >= 65_536) {
    return undefined;
  }
  return { port, ...(typeof host === "string" && host !== "" && { host }), ...more };
}
