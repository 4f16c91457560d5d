/** What `token.bind()` accepts. */
import { checkOptions, show } from "../core/check.ts";
import type { BindableServer, BindOptions } from "../core/token.ts";

/** The methods that all servers of node's kind have, on all runtimes. */
const METHODS = [
  "on",
  "emit",
  "address",
  "listenerCount",
  "prependListener",
  "listen",
  "getConnections",
];

type Members = Readonly<Record<string, unknown>>;

function hasAll(value: unknown, methods: readonly string[]): value is Members {
  const is = (typeof value === "object" && value !== null) || typeof value === "function";
  return is && methods.every((method) => typeof (value as Members)[method] === "function");
}

/** Whether it is a socket of node:dgram. */
export function isDatagramSocket(value: unknown): boolean {
  return hasAll(value, ["on", "address", "bind", "send", "setBroadcast"]);
}

/** What to write instead, by what a value has that is no server: the first that fits. */
const INSTEAD: readonly [fits: (value: Members) => boolean, what: string][] = [
  [
    (value) => hasAll(value, ["getHttpServer"]),
    "write `await app.init()`, then `token.bind(app.getHttpServer(), ...)`",
  ],
  [
    (value) => hasAll(value, ["handleUpgrade"]),
    "give the WebSocketServer a server, and bind that: `new WebSocketServer({ server })`",
  ],
  [
    (value) => hasAll(value.server, METHODS),
    "this is around a server: write `token.bind(app.server, ...)`",
  ],
  [
    (value) => hasAll(value.httpServer, METHODS),
    "this is around a server: write `token.bind(app.httpServer, ...)`",
  ],
  [
    (value) => hasAll(value.listener, METHODS),
    "this is around a server: write `token.bind(app.listener, ...)`",
  ],
  [
    (value) => hasAll(value, ["callback", "listen"]),
    "write `token.bind(createServer(app.callback()), ...)`, with createServer of node:http",
  ],
  [
    (value) => typeof value === "function",
    "write `token.bind(createServer(app), ...)`, with createServer of node:http",
  ],
  [
    (value) => hasAll(value, ["fetch"]) && !hasAll(value, ["stop"]),
    "write `serve(app)`, with serve of @js0/reload-self/serve, or `token.fetch(app.fetch)` for " +
    "Deno.serve and Bun.serve",
  ],
];

/** Throws a TypeError with what to write, unless it is a server of node's kind. */
export function checkServer(server: BindableServer): void {
  if (hasAll(server, METHODS)) return;
  const given: Members | null | undefined = server as unknown as Members | null | undefined;
  const isThere = given !== null && given !== undefined;
  const [, instead] = INSTEAD.find(([fits]) => isThere && fits(given)) ?? [];
  throw new TypeError(
    "bind: the server must be one of node:net, node:tls, node:http, node:https or node:http2, " +
      `or a socket of node:dgram, not ${show(server)}; ` +
      (instead ?? "Deno.serve and Bun.serve are adopted: `token.adopt(Bun.serve)({ ... })`"),
  );
}

const KNOWN_OPTIONS = [
  "port",
  "host",
  "path",
  "name",
  "backlog",
  "ipv6Only",
  "reusePort",
  "readableAll",
  "writableAll",
  "moveIdle",
];

/**
 * Throws a TypeError that names the first option that is wrong. Returns where a datagram socket is
 * to be bound.
 */
export function checkDatagramOptions(
  options: BindOptions,
): { port: number; host: string | undefined } {
  const port = checkBindOptions(options);
  const { port: _, host, ...others } = options;
  const other = Object.entries(others).find(([, value]) => value !== undefined);
  if (other !== undefined || port === undefined) {
    throw new TypeError(
      `bind: a datagram socket takes a port and a host, not ${other?.[0]}; createSocket() takes ` +
        "its other options",
    );
  }
  return { port, host };
}

/** Throws a TypeError that names the first option that is wrong. Returns the port as a number. */
export function checkBindOptions(options: BindOptions): number | undefined {
  checkOptions("bind", options, KNOWN_OPTIONS);
  const { port: given, host, path, name, moveIdle } = options;
  if (moveIdle !== undefined && typeof moveIdle !== "boolean") {
    throw new TypeError(`bind: moveIdle must be true or false, not ${show(moveIdle)}`);
  }
  for (const [option, value] of Object.entries({ host, path, name })) {
    if (value !== undefined && (typeof value !== "string" || value === "")) {
      throw new TypeError(`bind: ${option} must be a string, not ${show(value)}`);
    }
  }
  // A variable of the environment is a string: `process.env.PORT ?? 3000`.
  const port = typeof given === "string" && /^\d+$/.test(given) ? Number(given) : given;
  if (
    port !== undefined &&
    !(typeof port === "number" && Number.isInteger(port) && port >= 0 && port < 65_536)
  ) {
    throw new TypeError(`bind: port must be a whole number from 0 to 65535, not ${show(given)}`);
  }
  if (port !== undefined && path !== undefined) {
    throw new TypeError("bind: give it a port or a path, not both");
  }
  if (port === undefined && path === undefined && name === undefined) {
    throw new TypeError("bind: give it a port, a path, or the name of a socket");
  }
  return port;
}
