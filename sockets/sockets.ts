/** What a program does about its sockets, put together: what takes part in a reload, and what the token offers. */
import { checkOptions, show } from "../core/check.ts";
import { pause } from "../core/pause.ts";
import type { Participant } from "../core/participant.ts";
import type { Extension, ProgramContext } from "../core/program.ts";
import type { SharedPorts } from "../core/shared_ports.ts";
import type { Libc, Listener, SocketAdapter } from "../core/socket_adapter.ts";
import type { BindableServer, BindOptions, FetchHandler } from "../core/token.ts";
import { createBound } from "./bound.ts";
import { createDrain, type Drain } from "./drain.ts";
import { drainingFetch } from "./fetch.ts";
import { createPaths } from "./paths.ts";
import { createSteering } from "./steering.ts";
import { createWebSockets } from "./web_sockets.ts";

const DEFAULT_SETTLE = 1_000;
const DEFAULT_DRAIN_TIMEOUT = 30_000;
/** How long a server that shuts down goes on accepting: the connections that were made before it heard of it. */
const LINGER = 20;

/**
 * Lets a program hand its sockets over.
 *
 * @param shared The other processes of its generation, where it shares its ports with them.
 */
export function createSockets(adapter: SocketAdapter, program: ProgramContext, shared: SharedPorts | undefined): Extension {
  const { clock, options, emit, token, hasPredecessor, pid } = program;
  const settle = options.settle ?? DEFAULT_SETTLE;
  const drains = new Map<BindableServer, { name: string; drain: Drain }>();
  const atPaths: Listener[] = [];
  const begun: Promise<void>[] = [];
  let draining = false;
  let hasFetch = false;

  const bound = createBound(adapter, clock, hasPredecessor);
  const paths = createPaths(adapter, clock, pid, token.signal, hasPredecessor, (message) => emit({ type: "warning", message }));
  /** Opened once: that compiles a function for each call. */
  let opened: Promise<Libc | string> | undefined;
  const steering = createSteering({
    clock,
    descriptors: adapter.descriptors,
    async libc() {
      const libc = await (opened ??= adapter.libc?.());
      // Where all that is known of is bound, there is nothing to lose.
      return typeof libc === "string" && drains.size > 0 && !hasFetch ? undefined : libc;
    },
    isBound: bound.has,
    shared,
    warn: (message) => emit({ type: "warning", message }),
  });
  const webSockets = createWebSockets(token.signal);

  /** Lets the answers of the old process carry `Connection: close` from the commit on. */
  const settling: Participant = {
    name: "the settle time",
    commit() {
      draining = true;
    },
    rollback() {
      draining = token.isCancelled;
    },
    isListening: () => steering.hasServers || paths.isServing,
  };

  token.signal.addEventListener("abort", () => {
    draining = true;
    const timeout = options.drainTimeout ?? DEFAULT_DRAIN_TIMEOUT;
    // A successor accepts what waits in the socket. Where there is none, we do, before the kernel resets it.
    const accepted = drains.size === 0 || token.signal.reason.kind === "reload" ? Promise.resolve() : pause(clock, LINGER);
    const closed = accepted.then(() => {
      bound.close();
      for (const listener of atPaths) listener.close();
    });
    for (const { name, drain } of drains.values()) {
      const finished = closed.then(() => drain.finish({ settle, timeout })).then((connections) => {
        if (connections > 0) emit({ type: "drain-cut", server: name, connections, milliseconds: timeout });
      });
      token.track(finished, { name: `the connections of ${name}` });
    }
  });

  async function bind(server: BindableServer, options: BindOptions): Promise<void> {
    const binding = bindNow(server, options);
    begun.push(binding.catch(() => {}));
    await binding;
  }

  async function bindNow(server: BindableServer, options: BindOptions): Promise<void> {
    checkServer(server);
    checkBindOptions(options);
    if (token.isCancelled) throw new TypeError("bind: this process is cancelled; it does not begin to listen any more");
    if (drains.has(server)) throw new TypeError("bind: this server is bound already; make a new one, with the same handlers");
    const { name, path, port, ...given } = options;
    const rest = shared !== undefined ? { reusePort: true, ...given } : given;
    drains.set(server, { name: describe(options), drain: createDrain(server, clock, adapter.cutsAnswers) });
    try {
      if (path === undefined) return await bound.bind(server, { name, options: { ...rest, port } });
      if (bound.isActivated(path)) return await bound.bind(server, { name, options: { ...rest, path } });
      const made = await paths.reserve(path);
      atPaths.push(await adapter.listen(server, { options: { ...rest, path: made } }));
      await paths.placed(path);
    } catch (error) {
      drains.delete(server);
      throw error;
    }
  }

  return {
    begun: () => Promise.all(begun),
    last: shared === undefined ? [] : [steering.counting],
    participants: [settling, bound.participant, paths.participant, steering.participant],
    members: {
      bind,
      fetch<H extends FetchHandler>(handler: H): H {
        hasFetch = true;
        return drainingFetch(handler, () => draining);
      },
      path: paths.reserve,
      webSocket(socket) {
        webSockets.add(socket);
        return socket;
      },
    },
  };
}

function checkServer(server: BindableServer): void {
  for (const method of ["on", "emit", "address", "listenerCount", "prependListener"] as const) {
    if (typeof server?.[method] !== "function") {
      throw new TypeError(
        `bind: the server must be one of node:net, node:tls, node:http, node:https or node:http2, not ${show(server)}; ` +
          "Deno.serve and Bun.serve need no bind, but `reusePort: true`",
      );
    }
  }
}

const KNOWN = ["port", "host", "path", "name", "backlog", "ipv6Only", "reusePort", "readableAll", "writableAll"];

function checkBindOptions(options: BindOptions): void {
  checkOptions("bind", options, KNOWN);
  const { port, host, path, name } = options;
  for (const [option, value] of Object.entries({ host, path, name })) {
    if (value !== undefined && (typeof value !== "string" || value === "")) {
      throw new TypeError(`bind: ${option} must be a string, not ${show(value)}`);
    }
  }
  if (port !== undefined && !(Number.isInteger(port) && port >= 0 && port < 65_536)) {
    throw new TypeError(`bind: port must be a whole number from 0 to 65535, not ${show(port)}`);
  }
  if (port !== undefined && path !== undefined) throw new TypeError("bind: give it a port or a path, not both");
  if (port === undefined && path === undefined && name === undefined) {
    throw new TypeError("bind: give it a port, a path, or the name of a socket");
  }
}

function describe({ path, host, port, name }: BindOptions): string {
  return path ?? (port === undefined ? `socket ${name}` : `${host ?? "*"}:${port}`);
}
