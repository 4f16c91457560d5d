/** Live connections in the new process. */
import { describeError } from "../core/describe_error.ts";
import type { LiveSocket } from "../core/live.ts";
import { isNative } from "../core/native_socket.ts";
import { DEFAULT_DRAIN_TIMEOUT_MS } from "../core/options.ts";
import { pause } from "../core/pause.ts";
import type { ConnectionAdapter } from "../core/socket_adapter.ts";
import { whenCancelled } from "../core/when_cancelled.ts";
import type { ProgramContext } from "../reload/context.ts";
import type { IncomingHandover, IncomingReload } from "../reload/handover.ts";
import { receiveConnections } from "./receiver.ts";
import type { NativeSockets } from "./native_sockets.ts";

/** Milliseconds between two checks of the connections that are drained. */
const DRAIN_CHECK_MS = 50;
/**
 * How long to wait for the first connection, and for the next one. The old process may have been
 * stopped.
 */
const FIRST_TIMEOUT_MS = 5_000;
const NEXT_TIMEOUT_MS = 1_000;

/** Connections that wait until all have arrived. */
type Gathered = { name: string; socket: LiveSocket; session?: unknown; isUsed?: boolean }[];

/**
 * The connections that came from the predecessor. No server of this process knows them: they are
 * drained here.
 */
export interface LiveArrivals {
  receive(arrival: IncomingReload): IncomingHandover;
}

/** The arrivals of one reload. */
interface Receiving {
  readonly adapter: ConnectionAdapter;
  readonly program: ProgramContext;
  readonly adopted: Set<LiveSocket>;
  /** `undefined`: each is accepted as it arrives. */
  gathered: Gathered | undefined;
  stopTimer(): void;
}

/**
 * All connections that the old process released at the commit are accepted at once, before any is
 * read from, unless they are independent: what one client sends to all others reaches those that
 * arrive last.
 */
export function createLiveArrivals(
  adapter: ConnectionAdapter,
  program: ProgramContext,
  natives: NativeSockets | undefined,
): LiveArrivals {
  const { token } = program;
  const adopted = new Set<LiveSocket>();
  whenCancelled(token, () => {
    if (adopted.size > 0) token.track(drain(adopted, program), { name: "the live connections" });
  });
  return {
    receive(arrival) {
      const receiving: Receiving = {
        adapter,
        program,
        adopted,
        gathered: undefined,
        stopTimer() {},
      };
      return receive(receiving, natives, arrival);
    },
  };
}

function receive(
  receiving: Receiving,
  natives: NativeSockets | undefined,
  arrival: IncomingReload,
): IncomingHandover {
  const serveOne = (name: string, socket: LiveSocket, session: unknown) =>
    serve(receiving, name, socket, session);
  const nativeArrivals = () => {
    const { libc } = natives?.access() ?? {};
    return libc && natives?.arrivals(libc);
  };
  receiveConnections(receiving.adapter, arrival, {
    ...(natives && {
      serveDescriptor(name, fd, session) {
        const socket = nativeArrivals()?.passing(fd);
        if (socket === undefined) return false;
        // Those that wait for others have none yet.
        return serveOne(name, socket, session) && (socket.arrival ?? true);
      },
      reserved: () => nativeArrivals()?.pending ?? 0,
    }),
    announced: () => gather(receiving),
    allSent: () => acceptAll(receiving),
    serve: serveOne,
  });
  return {
    takeOver() {
      if (receiving.gathered !== undefined) waitAtMost(receiving, FIRST_TIMEOUT_MS);
    },
    over: () => acceptAll(receiving),
  };
}

/** From now on connections wait for one another, also those that clients make meanwhile. */
function gather(receiving: Receiving): void {
  const { adapter, program } = receiving;
  const list: Gathered = receiving.gathered = [];
  for (const [name, group] of program.live) {
    if (group.isIndependent) continue;
    group.divert = (socket, isUsed) => {
      if (isUsed) accept(program, name, socket, undefined);
      if (!isNative(socket)) adapter.stop(socket);
      list.push({ name, socket, isUsed });
    };
  }
}

/** Returns whether there is a group of that name. */
function serve(receiving: Receiving, name: string, socket: LiveSocket, session: unknown): boolean {
  const { adapter, program, adopted, gathered } = receiving;
  const group = program.live.get(name);
  if (group === undefined) {
    program.warn(
      `there are no live connections with the name ${name} here: the old process keeps its own`,
    );
    return false;
  }
  adopted.add(socket);
  socket.once("close", () => adopted.delete(socket));
  if (gathered !== undefined && !group.isIndependent) {
    gathered.push({ name, socket, session });
    waitAtMost(receiving, NEXT_TIMEOUT_MS);
  } else {
    accept(program, name, socket, session);
    if (!isNative(socket)) adapter.start(socket);
  }
  return true;
}

function waitAtMost(receiving: Receiving, milliseconds: number): void {
  receiving.stopTimer();
  receiving.stopTimer = receiving.program.clock.timer(milliseconds, () => acceptAll(receiving));
}

function acceptAll(receiving: Receiving): void {
  const { adapter, program, gathered: all = [] } = receiving;
  receiving.stopTimer();
  receiving.gathered = undefined;
  for (const group of program.live.values()) group.divert = undefined;
  for (const { name, socket, session, isUsed } of all) {
    if (!isUsed) accept(program, name, socket, session);
  }
  for (const { socket } of all) if (!isNative(socket)) adapter.start(socket);
}

function accept(
  { live, warn }: ProgramContext,
  name: string,
  socket: LiveSocket,
  session: unknown,
): void {
  try {
    live.get(name)?.serve(socket, session);
  } catch (error) {
    warn(`${name}: accept() threw, and the connection is closed: ${describeError(error)}`);
    socket.destroy();
  }
}

/**
 * Waits for the application and the clients to end these connections, and cuts those that are left.
 */
async function drain(
  sockets: Set<LiveSocket>,
  { clock, options, emit }: ProgramContext,
): Promise<void> {
  const milliseconds = options.drainTimeout ?? DEFAULT_DRAIN_TIMEOUT_MS;
  for (const begun = clock.now(); sockets.size > 0; await pause(clock, DRAIN_CHECK_MS)) {
    if (clock.now() - begun < milliseconds) continue;
    emit({ type: "drain-cut", server: "the predecessor", connections: sockets.size, milliseconds });
    for (const socket of sockets) socket.destroy();
    return;
  }
}
