/** The sockets of a program: their handovers, their draining, and the members of the token. */
import { ReloadError } from "../core/error.ts";
import { DEFAULT_DRAIN_TIMEOUT_MS, DEFAULT_IDLE_GRACE_MS, SHUTDOWN_IDLE_GRACE_MS } from "../core/options.ts";
import { pause } from "../core/pause.ts";
import type { AdoptedServer } from "../core/native.ts";
import type { ServiceAdapter } from "../core/service_adapter.ts";
import type { Listener, SocketAdapter } from "../core/socket_adapter.ts";
import type { BindableServer, BindOptions } from "../core/token.ts";
import { whenCancelled } from "../core/when_cancelled.ts";
import { createDrain, type Drain } from "../drain/http1.ts";
import type { ProgramContext, ProgramParts } from "../reload/context.ts";
import type { Handover } from "../reload/handover.ts";
import { checkBindOptions, checkDatagramOptions, checkServer, isDatagramSocket } from "./bind_options.ts";
import { createDatagrams } from "./datagrams.ts";
import type { HttpServer } from "./http_server.ts";
import { createListeningSockets } from "./listening_sockets.ts";
import type { NativeHandover } from "./native_servers.ts";
import { createReuseport } from "./reuseport.ts";
import type { SharedPorts } from "./shared_ports.ts";
import { createUnbound } from "./unbound.ts";
import { createUnixSockets } from "./unix_sockets.ts";

/** How long a server that shuts down keeps accepting, for the connections that were made before. */
const LAST_ACCEPTS_MS = 20;
/** How long after its requests a native server is cut. They have the same time limit; cut with the server, they would not be counted. */
const AFTER_REQUESTS_MS = 100;

/** The part of a program that has to do with sockets. */
export interface Sockets extends Pick<ProgramParts, "members" | "listening"> {
  /** The servers whose idle connections move, by keys that are the same in every generation. */
  movable(): HttpServer[];
  /** The handovers, to be put in order; see program/compose.ts. */
  readonly handovers: Readonly<Record<"settling" | "datagrams" | "listening" | "unix" | "reuseport" | "unbound", Handover>>;
}

/** What the sockets need of the other parts of the program. */
export interface OtherParts {
  readonly nativeServers: NativeHandover;
  /** The native servers whose connections have all moved to the new process. */
  readonly emptied: ReadonlySet<AdoptedServer>;
  /** The other instances, where they share their ports. */
  readonly shared: SharedPorts | undefined;
  /** As {@linkcode ServiceAdapter.every}, where there is one. */
  readonly every: ServiceAdapter["every"] | undefined;
  /** As {@linkcode ServiceAdapter.holders}, where there is one. */
  readonly holders: ServiceAdapter["holders"] | undefined;
  /** Whether the application waits for the state of its predecessor. */
  awaitsState(): boolean;
}

/** The part of a program that has no sockets. */
export function withoutSockets(runtime: string): Pick<Sockets, "members" | "listening"> {
  const unsupported = (member: string) => () =>
    Promise.reject(new ReloadError("unsupported", `${member}: there are no sockets to listen on here (${runtime})`));
  return {
    members: {
      bind: unsupported("bind"),
      path: unsupported("path"),
    },
    listening: () => Promise.resolve(),
  };
}

/** The part of a program that has sockets. */
export function createSockets(adapter: SocketAdapter, program: ProgramContext, others: OtherParts): Sockets {
  const { nativeServers, emptied, shared, every, holders, awaitsState } = others;
  const { clock, options, emit, token, wrapped } = program;
  const idleGrace = options.idleGrace ?? DEFAULT_IDLE_GRACE_MS;
  const shortGrace = Math.min(idleGrace, SHUTDOWN_IDLE_GRACE_MS);
  const timeout = options.drainTimeout ?? DEFAULT_DRAIN_TIMEOUT_MS;
  const drains = new Map<BindableServer, { name: string; drain: Drain; moveIdle: boolean }>();
  const atPaths = new Map<string, { server: BindableServer; listener: Listener }>();
  const begun: Promise<void>[] = [];

  const listeningSockets = createListeningSockets(adapter, program);
  const unixSockets = createUnixSockets(adapter, program);
  const datagrams = createDatagrams(adapter.datagrams, program);
  // Where all known servers are bound there is nothing to steer.
  const isSteering = () =>
    adapter.libc !== undefined && (drains.size + program.datagrams.sockets.length === 0 || wrapped.exist);
  const reuseport = createReuseport({
    program,
    descriptors: adapter.descriptors,
    libc() {
      const libc = adapter.libc?.();
      return typeof libc === "string" && !isSteering() ? undefined : libc;
    },
    isBound: (port) => listeningSockets.has(port) || nativeServers.has(port),
    shared,
  });
  const unbound = createUnbound({
    program,
    listening: () => adapter.listening()?.filter(({ fd }) => !adapter.activated.some((socket) => socket.fd === fd)),
    isBound: ({ address }) =>
      typeof address === "string"
        ? unixSockets.has(address) || nativeServers.has(address)
        : listeningSockets.has(address.port) || nativeServers.has(address.port),
    handsOver: () =>
      drains.size > 0 || program.natives.servers.length > 0 || wrapped.exist || unixSockets.handover.isListening?.() === true,
    areNamed: isSteering,
    awaitsState,
    every,
    stopListening: adapter.stopListening,
    holders,
  });
  function movable(): HttpServer[] {
    const servers = [...listeningSockets.servers(), ...[...atPaths].map(([path, { server }]) => [path, server] as const)];
    return servers.flatMap(([key, server]) => {
      const { drain, moveIdle } = drains.get(server) ?? {};
      return drain !== undefined && moveIdle ? [{ key, server, connections: drain.plain() }] : [];
    });
  }
  /** From the commit on the answers of the old process carry `Connection: close`. */
  const settling: Handover = {
    name: "the idle grace",
    outgoing: () => ({
      commit: () => void (wrapped.areClosing = true),
      rollback: () => void (wrapped.areClosing = token.isCancelled),
    }),
    incoming: () => ({
      // Sockets of its own have connections that wait, and the application closes its servers when the token is cancelled.
      revoke() {
        wrapped.areClosing = true;
        return pause(clock, wrapped.exist ? shortGrace : LAST_ACCEPTS_MS);
      },
    }),
  };

  whenCancelled(token, ({ kind }) => {
    // A successor accepts the connections that wait in a socket. Without one this process does, before the kernel resets them.
    const isReplaced = kind === "reload";
    const closed = (drains.size === 0 || isReplaced ? Promise.resolve() : pause(clock, LAST_ACCEPTS_MS)).then(() => {
      listeningSockets.close();
      for (const { listener } of atPaths.values()) listener.close();
    });
    const { natives: opened } = program;
    opened.onOpen = (server) => void token.track(drainNative(server, isReplaced), { name: server.key });
    opened.servers.forEach(opened.onOpen);
    for (const { name, drain } of drains.values()) {
      const drained = closed.then(() => drain.finish({ idleGrace: isReplaced ? idleGrace : shortGrace, timeout })).then(
        (connections) => {
          if (connections > 0) emit({ type: "drain-cut", server: name, connections, milliseconds: timeout });
        },
      );
      token.track(drained, { name: `the connections of ${name}` });
    }
  });

  /** Finishes what an adopted server has begun, and cuts what is left after the timeout. */
  async function drainNative(server: AdoptedServer, isReplaced: boolean): Promise<void> {
    server.setClosing(true);
    const kept = emptied.has(server) ? shortGrace : idleGrace;
    const idle = pause(clock, isReplaced ? kept : LAST_ACCEPTS_MS);
    const stop = clock.timer(timeout + AFTER_REQUESTS_MS, () => {
      const connections = server.cut();
      if (connections > 0) emit({ type: "drain-cut", server: server.key, connections, milliseconds: timeout });
    });
    await server.finish(idle);
    stop();
  }

  async function bind(server: BindableServer, options: BindOptions): Promise<void> {
    const datagramAddress = isDatagramSocket(server) ? checkDatagramOptions(options) : undefined;
    if (datagramAddress === undefined) checkServer(server);
    const port = checkBindOptions(options);
    if (token.isCancelled) throw new TypeError("bind: this process is cancelled; it does not begin to listen any more");
    if (datagramAddress !== undefined) return await datagrams.bind(server, datagramAddress);
    if (drains.has(server)) throw new TypeError("bind: this server is bound already; make a new one, with the same handlers");
    const { name, path, port: _, moveIdle = true, ...given } = options;
    const rest = shared !== undefined ? { reusePort: true, ...given } : given;
    drains.set(server, {
      name: describe(options),
      drain: createDrain(server, clock, adapter.http2CloseTruncates, adapter.http1),
      moveIdle,
    });
    try {
      if (path === undefined) return await listeningSockets.bind(server, { name, options: { ...rest, port } });
      if (listeningSockets.isActivated(path)) return await listeningSockets.bind(server, { name, options: { ...rest, path } });
      const made = await unixSockets.reserve(path);
      atPaths.set(path, { server, listener: await adapter.listen(server, { options: { ...rest, path: made } }) });
      await unixSockets.placed(path);
    } catch (error) {
      drains.delete(server);
      throw error;
    }
  }

  return {
    movable,
    handovers: {
      settling,
      datagrams: datagrams.handover,
      listening: listeningSockets.handover,
      unix: unixSockets.handover,
      reuseport,
      unbound,
    },
    members: {
      async bind(server, options) {
        const binding = bind(server, options);
        begun.push(binding.catch(() => {}));
        await binding;
      },
      path: unixSockets.reserve,
    },
    listening: () => Promise.all(begun),
  };
}

function describe({ path, host, port, name }: BindOptions): string {
  return path ?? (port === undefined ? `socket ${name}` : `${host ?? "*"}:${port}`);
}
