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
/** How long to wait for the first connection, and for the next one. The old process may have been stopped. */
const FIRST_TIMEOUT_MS = 5_000;
const NEXT_TIMEOUT_MS = 1_000;

/** Connections that wait until all have arrived. */
type Gathered = { name: string; socket: LiveSocket; session?: unknown; isUsed?: boolean }[];

/** The connections that came from the predecessor. No server of this process knows them: they are drained here. */
export interface LiveArrivals {
  receive(arrival: IncomingReload): IncomingHandover;
}

/**
 * All connections that the old process released at the commit are accepted at once, before any is read from, unless they are independent: what
 * one client sends to all others reaches those that arrive last.
 */
export function createLiveArrivals(
  adapter: ConnectionAdapter,
  program: ProgramContext,
  natives: NativeSockets | undefined,
): LiveArrivals {
  const { clock, live: groups, token, warn } = program;
  const adopted = new Set<LiveSocket>();
  whenCancelled(token, () => {
    if (adopted.size > 0) token.track(drain(adopted, program), { name: "the live connections" });
  });

  function accept(name: string, socket: LiveSocket, session: unknown): void {
    try {
      groups.get(name)?.serve(socket, session);
    } catch (error) {
      warn(`${name}: accept() threw, and the connection is closed: ${describeError(error)}`);
      socket.destroy();
    }
  }

  function receive(arrival: IncomingReload): IncomingHandover {
    let gathered: Gathered | undefined;
    let stopTimer = () => {};

    function waitAtMost(milliseconds: number): void {
      stopTimer();
      stopTimer = clock.timer(milliseconds, acceptAll);
    }

    function acceptAll(): void {
      stopTimer();
      for (const group of groups.values()) group.divert = undefined;
      const all = gathered ?? [];
      gathered = undefined;
      for (const { name, socket, session, isUsed } of all) if (!isUsed) accept(name, socket, session);
      for (const { socket } of all) if (!isNative(socket)) adapter.start(socket);
    }

    function serve(name: string, socket: LiveSocket, session: unknown): boolean {
      const group = groups.get(name);
      if (group === undefined) {
        warn(`there are no live connections with the name ${name} here: the old process keeps its own`);
        return false;
      }
      adopted.add(socket);
      socket.once("close", () => adopted.delete(socket));
      if (gathered !== undefined && !group.isIndependent) {
        gathered.push({ name, socket, session });
        waitAtMost(NEXT_TIMEOUT_MS);
      } else {
        accept(name, socket, session);
        if (!isNative(socket)) adapter.start(socket);
      }
      return true;
    }

    receiveConnections(adapter, arrival, {
      ...(natives && {
        serveDescriptor(name, fd, session) {
          const { libc } = natives.access() ?? {};
          if (libc === undefined) return false;
          const socket = natives.arrivals(libc).passing(fd);
          return serve(name, socket, session) && (socket.arrival ?? true); // Those that wait for others have none yet.
        },
      }),
      announced() {
        const list: Gathered = gathered = [];
        for (const [name, group] of groups) {
          if (group.isIndependent) continue;
          group.divert = (socket, isUsed) => {
            if (isUsed) accept(name, socket, undefined);
            if (!isNative(socket)) adapter.stop(socket);
            list.push({ name, socket, isUsed });
          };
        }
      },
      complete: acceptAll,
      serve,
    });
    return {
      takeOver() {
        if (gathered !== undefined) waitAtMost(FIRST_TIMEOUT_MS);
      },
      over: acceptAll,
    };
  }
  return { receive };
}

/** Waits for the application and the clients to end these connections, and cuts those that are left. */
async function drain(sockets: Set<LiveSocket>, { clock, options, emit }: ProgramContext): Promise<void> {
  const milliseconds = options.drainTimeout ?? DEFAULT_DRAIN_TIMEOUT_MS;
  for (const begun = clock.now(); sockets.size > 0; await pause(clock, DRAIN_CHECK_MS)) {
    if (clock.now() - begun < milliseconds) continue;
    emit({ type: "drain-cut", server: "the predecessor", connections: sockets.size, milliseconds });
    for (const socket of sockets) socket.destroy();
    return;
  }
}
