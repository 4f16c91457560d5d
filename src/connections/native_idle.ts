/**
 * Moves the connections of native servers that wait for their next request. They move when the new process has passed its probation, as those
 * of bound servers do.
 */
import { isNative } from "../core/native_socket.ts";
import { pause } from "../core/pause.ts";
import type { Libc, SocketAdapter } from "../core/socket_adapter.ts";
import { takeAtRest, takeClosed } from "../linux/idle_http.ts";
import { scanSockets, type SocketScan } from "../linux/socket_scan.ts";
import type { ProgramContext } from "../reload/context.ts";
import type { Handover, IncomingHandover, IncomingReload, OutgoingHandover, OutgoingReload } from "../reload/handover.ts";
import { receiveConnections } from "./receiver.ts";
import { createConnectionSender } from "./sender.ts";
import type { MovableServer } from "../sockets/native_servers.ts";
import type { NativeSockets } from "./native_sockets.ts";

/** How long to wait for connections to become idle. Those that are busy for longer are drained. */
const MOVE_TIMEOUT_MS = 1_000;
/** Milliseconds between two looks at the connections that were busy: at least, and as a multiple of the time that a look takes. */
const RETRY_MS = 10;
const RETRY_PART = 5;

/** The handover of these connections. */
export function createNativeConnections(
  adapter: Pick<SocketAdapter, "libc">,
  program: ProgramContext,
  { servers, arrivals, emptied }: NativeSockets,
): Handover {
  const { clock, live, natives, token } = program;

  function open(): Libc | undefined {
    const libc = adapter.libc?.();
    return typeof libc === "object" ? libc : undefined;
  }

  function outgoing(reload: OutgoingReload): OutgoingHandover {
    const sender = createConnectionSender(1, clock, reload);
    let libc: Libc | undefined;
    let movable: readonly MovableServer[] = [];
    /** How many stay here. Known when the others have moved. */
    let left: number | undefined;

    const connectionsOf = (scan: SocketScan, { port }: MovableServer) =>
      [...scan.sockets.values()].filter(({ kind, localPort }) => kind === "connection" && localPort === port).map(({ fd }) =>
        fd
      );

    async function take(
      libc: Libc,
      scan: SocketScan,
      { connections }: MovableServer,
      fds: readonly number[],
    ): Promise<number[]> {
      if (connections.closeIdle !== undefined) return takeClosed(libc, fds, () => connections.closeIdle?.());
      const look = () => {
        const busy = connections.busy?.();
        return (fd: number) => busy === undefined || busy.has(scan.sockets.get(fd)?.peerPort ?? 0);
      };
      return await takeAtRest(libc, scan, fds, look, () => pause(clock, 0));
    }

    async function move(libc: Libc, hurry: AbortSignal): Promise<void> {
      await sender.tell("begin");
      if (!sender.takesDescriptors) return;
      for (const begun = clock.now(); clock.now() - begun < MOVE_TIMEOUT_MS;) {
        const looked = clock.now();
        const scan = scanSockets(libc);
        let busy = 0;
        for (const one of movable) {
          const fds = connectionsOf(scan, one);
          const taken = fds.length === 0 ? [] : await take(libc, scan, one, fds);
          busy += fds.length - taken.length;
          for (const fd of taken) {
            sender.add({
              group: one.server.key,
              shared: { fd },
              close: () => libc.close(fd),
              giveBack: () => arrivals(libc).add(one.server, fd),
            });
          }
        }
        const milliseconds = clock.now() - looked;
        await sender.sendAll();
        if (busy === 0 || reload.signal.aborted || hurry.aborted) return;
        await pause(clock, Math.max(RETRY_MS, RETRY_PART * milliseconds));
      }
    }

    return {
      beforeStart() {
        libc = open();
        const all = libc === undefined ? [] : servers.movable();
        // Those of two servers at one port cannot be told apart.
        movable = all.filter(({ port }) => all.filter((other) => other.port === port).length === 1);
      },
      sendsDescriptors: () => movable.length > 0,
      offer: sender.open,
      commit() {
        for (const { connections } of movable) connections.watch(true);
      },
      async beforeRetire(hurry) {
        if (libc === undefined || movable.length === 0) return;
        await move(libc, hurry).catch(() => {}); // The new process is gone, or hangs: what is left is drained.
        sender.finish();
        for (const { server } of movable) server.setClosing(true);
        const scan = scanSockets(libc);
        let all = 0;
        for (const one of movable) {
          const { length } = connectionsOf(scan, one);
          all += length;
          if (length === 0) emptied.add(one.server);
        }
        const webSockets = [...live.values()].flatMap(({ sockets }) => [...sockets]).filter(isNative).length;
        left = Math.max(0, all - webSockets);
      },
      moved() {
        const { moved, milliseconds } = sender;
        return left === undefined || moved + left === 0 ? undefined : { kind: "idle", moved, left, milliseconds };
      },
      rollback() {
        for (const { server, connections } of movable) {
          connections.watch(false);
          server.setClosing(token.isCancelled);
        }
        sender.giveBack();
      },
    };
  }

  function incoming(arrival: IncomingReload): IncomingHandover {
    receiveConnections({ adopt: () => Promise.reject(new Error("it takes descriptors")) }, arrival, {
      serve: () => false,
      serveDescriptor(key, fd) {
        const libc = open();
        const server = natives.servers.find((server) => server.key === key);
        if (libc === undefined || server?.connections === undefined) return false;
        return arrivals(libc).add(server, fd);
      },
    });
    return {};
  }

  return { name: "the connections of native servers", outgoing, incoming };
}
