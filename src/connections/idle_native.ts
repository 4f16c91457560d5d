/** The idle connections of native servers. */
import type { Clock } from "../core/adapter.ts";
import { chunk } from "../core/chunk.ts";
import { isNative } from "../core/native_socket.ts";
import { pause } from "../core/pause.ts";
import type { Libc } from "../core/socket_adapter.ts";
import { roomFor } from "../linux/free_descriptors.ts";
import { takeAtRest, takeClosed } from "../linux/idle_http.ts";
import { connectionsAt, scanSockets, type SocketScan } from "../linux/socket_scan.ts";
import type { ProgramContext } from "../reload/context.ts";
import type { MovableServer } from "../sockets/native/native_servers.ts";
import type { IdleSource, OutgoingIdle } from "./idle.ts";
import type { NativeSockets } from "./native_sockets.ts";
import { type ConnectionSender, DESCRIPTOR_WINDOW } from "./sender.ts";

/** The servers that the token has adopted. */
export function nativeSource(program: ProgramContext, sockets: NativeSockets): IdleSource {
  const arrivals = () => sockets.servers.libc && sockets.arrivals(sockets.servers.libc);
  return {
    outgoing: (sender) => takeNative(program, sockets, sender),
    serveDescriptor(key, fd) {
      const server = program.natives.servers.find((server) => server.key === key);
      return server?.connections !== undefined && (arrivals()?.add(server, fd) ?? false);
    },
    reserved: () => arrivals()?.pending ?? 0,
    end: () => arrivals()?.end(),
  };
}

/** Takes those of a server that wait for a request, some at a time where that is possible. */
async function* takeOf(
  libc: Libc,
  clock: Clock,
  scan: SocketScan,
  { connections }: MovableServer,
  fds: readonly number[],
): AsyncIterable<readonly number[]> {
  if (connections.closeIdle !== undefined) {
    return yield takeClosed(libc, fds, () => connections.closeIdle?.());
  }
  const look = () => {
    const busy = connections.busy?.();
    return (fd: number) => busy === undefined || busy.has(scan.sockets.get(fd)?.peerPort ?? 0);
  };
  const turn = () => pause(clock, 0);
  for (const some of chunk(fds, DESCRIPTOR_WINDOW)) {
    // Until the server has closed its own, there are two of each that is taken.
    const most = roomFor(libc, some[0] as number, some.length);
    yield await takeAtRest(libc, scan, some.slice(0, most), look, turn);
  }
}

function takeNative(
  { clock, live, token }: ProgramContext,
  { servers, arrivals, emptied }: NativeSockets,
  sender: ConnectionSender,
): OutgoingIdle {
  let libc: Libc | undefined;
  let movable: readonly MovableServer[] = [];
  let busy = 0;

  return {
    beforeStart() {
      libc = servers.libc;
      const all = libc === undefined ? [] : servers.movable();
      // Those of two servers at one port cannot be told apart.
      movable = all.filter(({ port }) => all.filter((other) => other.port === port).length === 1);
    },
    hasAny: () => movable.length > 0,
    sendsDescriptors: () => movable.length > 0,
    commit() {
      for (const { connections } of movable) connections.watch(true);
    },
    async *take() {
      busy = 0;
      if (libc === undefined || !sender.takesDescriptors) return;
      const known = libc;
      const scan = scanSockets(known);
      for (const one of movable) {
        const fds = connectionsAt(scan, one.port);
        busy += fds.length;
        for await (const taken of takeOf(known, clock, scan, one, fds)) {
          busy -= taken.length;
          for (const fd of taken) {
            sender.add({
              group: one.server.key,
              shared: { fd },
              close: () => known.close(fd),
              giveBack: () => arrivals(known).add(one.server, fd),
            });
          }
          if (taken.length > 0) yield;
        }
      }
    },
    isBusy: () => busy > 0,
    left() {
      for (const { server } of movable) server.setClosing(true);
      const scan = scanSockets(libc as Libc);
      const countOf = ({ port }: MovableServer) => connectionsAt(scan, port).length;
      const counts = movable.map((one) => [one.server, countOf(one)] as const);
      for (const [server, count] of counts) if (count === 0) emptied.add(server);
      const webSockets =
        [...live.values()].flatMap(({ sockets }) => [...sockets]).filter(isNative).length;
      return Math.max(0, counts.reduce((sum, [, count]) => sum + count, 0) - webSockets);
    },
    rollback() {
      for (const { server, connections } of movable) {
        connections.watch(false);
        server.setClosing(token.isCancelled);
      }
    },
  };
}
