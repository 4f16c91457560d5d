/** The sockets of a program: their handovers, their draining, and the members of the token. */
import type { AdoptedServer } from "../core/native.ts";
import { ReloadError } from "../core/error.ts";
import {
  DEFAULT_DRAIN_TIMEOUT_MS,
  DEFAULT_IDLE_GRACE_MS,
  type ListenOptions,
  SHUTDOWN_IDLE_GRACE_MS,
} from "../core/options.ts";
import { isPrivate } from "../core/marks.ts";
import { atMost, pause } from "../core/pause.ts";
import type { ServiceAdapter } from "../core/service_adapter.ts";
import type { OwnSocket, SocketAdapter } from "../core/socket_adapter.ts";
import { whenCancelled } from "../core/when_cancelled.ts";
import type { ProgramContext, ProgramParts } from "../reload/context.ts";
import type { Handover } from "../reload/handover.ts";
import { Bindings, type Finish, type Graces, type HttpServer } from "./bindings.ts";
import { nameOfServer, type NativeHandover } from "./native/native_servers.ts";
import { Reuseport, type SharedPorts } from "./reuseport/reuseport.ts";
import { Unbound } from "./unbound.ts";

/**
 * How long a process that is shut down during the reload which it came from waits for the end of
 * that, in milliseconds.
 */
const ARRIVE_TIMEOUT_MS = 2_000;
/** Milliseconds between two looks at the requests that began before the server was closing. */
const UNANNOUNCED_CHECK_MS = 50;

type SocketHandovers = "settling" | "datagrams" | "listening" | "unix" | "reuseport" | "unbound";

/** The part of a program that has to do with sockets. */
export interface Sockets extends Pick<ProgramParts, "members" | "listening"> {
  /** The servers whose idle connections move, by keys that are the same in every generation. */
  movable(): HttpServer[];
  /** The handovers, to be put in order; see program/compose.ts. */
  readonly handovers: Readonly<Record<SocketHandovers, Handover>>;
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
  const unsupported = (member: string) => () => {
    const why = `${member}: there are no sockets to listen on here (${runtime})`;
    return Promise.reject(new ReloadError("unsupported", why));
  };
  return {
    members: { bind: unsupported("bind"), path: unsupported("path") },
    listening: () => Promise.resolve(),
  };
}

/** The part of a program that has sockets. */
export function createSockets(
  adapter: SocketAdapter,
  program: ProgramContext,
  others: OtherParts,
): Sockets {
  const { nativeServers, shared } = others;
  const { datagrams, natives, token, wrapped } = program;
  const graces = gracesOf(program.options);
  const bindings = new Bindings(adapter, program, shared !== undefined);
  const { listening, unix } = bindings;
  const isBound = (port: number) => listening.has(port) || nativeServers.has(port);
  // Where all known servers are bound there is nothing to steer.
  const isSteering = () =>
    adapter.libc !== undefined &&
    (bindings.size + datagrams.sockets.length === 0 || wrapped.exist);
  const reuseport = new Reuseport({
    program,
    descriptors: adapter.descriptors,
    libc() {
      const libc = adapter.libc?.();
      return typeof libc === "string" && !isSteering() ? undefined : libc;
    },
    isBound,
    shared,
  });
  const unbound = new Unbound({
    program,
    listening: () => adapter.listening()?.filter((socket) => isOpenedHere(adapter, socket)),
    isBound: ({ address: at }) =>
      typeof at === "string" ? unix.has(at) || nativeServers.has(at) : isBound(at.port),
    handsOver: () =>
      bindings.size + natives.servers.length + unix.sockets.size > 0 || wrapped.exist,
    areNamed: isSteering,
    stopListening: adapter.stopListening,
    ...others,
  });

  whenCancelled(token, ({ kind }) => {
    const isReplaced = kind === "reload";
    const arrived = isReplaced
      ? Promise.resolve()
      : atMost(program.clock, ARRIVE_TIMEOUT_MS, program.arrived);
    finishNatives(program, others, { isReplaced, arrived, ...graces });
    bindings.finish({ isReplaced, arrived, ...graces });
  });

  return {
    movable: () => bindings.movable(),
    handovers: {
      settling: createSettling(program, bindings, graces),
      datagrams: bindings.datagrams.handover,
      listening: listening.handover,
      unix: unix.handover,
      reuseport: reuseport.handover,
      unbound: unbound.handover,
    },
    members: {
      bind: (server, options) => bindings.bind(server, options),
      path: (path) => unix.reserve(path),
    },
    listening: () => bindings.settled(),
  };
}

/** Whether the application has opened a socket, for its clients. */
function isOpenedHere({ activated }: SocketAdapter, { fd, address }: OwnSocket): boolean {
  return activated.every((one) => one.fd !== fd) &&
    !isPrivate(typeof address === "string" ? address : address.port);
}

function gracesOf({ idleGrace, drainTimeout }: ListenOptions): Graces {
  const idle = idleGrace ?? DEFAULT_IDLE_GRACE_MS;
  const short = Math.min(idle, SHUTDOWN_IDLE_GRACE_MS);
  return { idle, short, timeout: drainTimeout ?? DEFAULT_DRAIN_TIMEOUT_MS };
}

/** From the commit on the answers of the old process carry `Connection: close`. */
function createSettling(
  { clock, token, wrapped }: ProgramContext,
  bindings: Bindings,
  { short }: Graces,
): Handover {
  return {
    name: "the idle grace",
    outgoing: () => ({
      commit: () => void (wrapped.areClosing = true),
      rollback: () => void (wrapped.areClosing = token.isCancelled),
    }),
    incoming: () => ({
      // Sockets of its own have connections that wait, and the application closes its servers when
      // the token is cancelled.
      revoke() {
        wrapped.areClosing = true;
        return wrapped.exist ? pause(clock, short) : bindings.acceptLast();
      },
    }),
  };
}

/** Finishes the adopted servers, also one that is opened now, each as a task of the token. */
function finishNatives(
  { answered, clock, emit, natives, token }: ProgramContext,
  { emptied, nativeServers }: Pick<OtherParts, "emptied" | "nativeServers">,
  { isReplaced, arrived, idle, short, timeout }: Finish,
): void {
  /** Resolves when the clients had the time to learn that their connections end. */
  async function idleEnd(server: AdoptedServer): Promise<void> {
    await arrived;
    // As long as it accepts, there is no end of connections that have only just been made. Does
    // nothing where the new process has the socket.
    await nativeServers.closeLast(server);
    const grace = isReplaced && !emptied.has(server) ? idle : short;
    await pause(clock, grace);
    // The others learn it from the answer to their next request.
    const isUnannounced = () => (server.unannounced?.() ?? 0) > 0;
    if (!isUnannounced()) return;
    while (isUnannounced()) await pause(clock, UNANNOUNCED_CHECK_MS);
    await pause(clock, grace);
  }
  /** Finishes what a server has begun, and cuts what is left after the timeout. */
  async function finish(server: AdoptedServer): Promise<void> {
    const cut = Promise.withResolvers<void>();
    const raw = nativeServers.rawOf(server);
    server.setClosing(true);
    const stop = clock.timer(timeout, async () => {
      // The requests have the same time limit. Cut with the server, they would not be counted.
      await answered();
      const connections = server.cut() + (raw?.cut() ?? 0);
      cut.resolve();
      if (connections === 0) return;
      const name = nameOfServer(server);
      emit({ type: "drain-cut", server: name, connections, milliseconds: timeout });
    });
    const ended = Promise.race([idleEnd(server), cut.promise]);
    await server.finish(raw === undefined ? ended : ended.then(raw.ended), isReplaced);
    stop();
  }
  natives.onOpen = (server) => {
    token.track(finish(server), { name: nameOfServer(server) });
    if (server.endAccepting) token.drained().then(() => server.endAccepting?.());
  };
  natives.servers.forEach(natives.onOpen);
}
