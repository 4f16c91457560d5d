/** Connections of node:net that another process takes over, on Bun. */
import type { ConnectionAdapter } from "../../src/core/socket_adapter.ts";
import type { LiveSocket } from "../../src/core/live.ts";
import type { BindableServer } from "../../src/core/token.ts";
import { duplicate } from "../../src/linux/transplant.ts";
import { ifUsable } from "../shared/libc.ts";
import { emitCounted } from "../shared/node_connections.ts";
import { serveOn } from "./arrivals.ts";
import { lookForIdle } from "./http1.ts";
import { bunLibc } from "./libc.ts";
import { listenerOf } from "./listening.ts";

/** How many connections may be on their way at once. */
const WINDOW = 32;

/** The socket of Bun's own below a socket of node:net. */
interface RawHandle {
  pause(): void;
  resume(): void;
}

const handleOf = (socket: LiveSocket) =>
  (socket as { _handle?: RawHandle | null })._handle ?? undefined;

/** Bun sends sockets, not what is below them. */
export const bunConnections: ConnectionAdapter = {
  window: WINDOW,
  stop(socket) {
    const handle = handleOf(socket);
    if (handle === undefined) return;
    handle.pause();
    // The stream above it reads again by itself: after a chunk, and when the server has told the
    // application of the connection. The method of the socket only pauses that stream, which goes
    // on reading up to its limit.
    handle.resume = () => {};
  },
  start(socket) {
    const handle = handleOf(socket);
    if (handle === undefined) return;
    delete (handle as Partial<RawHandle>).resume;
    handle.resume();
  },
  handle: (socket) => handleOf(socket) && socket,
  adopt: (handle) => Promise.resolve(handle as LiveSocket),
  withoutHandles: {
    look() {
      const libc = ifUsable(bunLibc());
      return libc && lookForIdle(libc);
    },
    serve: serveSoon,
  },
  serveIdle(server, socket, unlimited) {
    const fd = takeOut(server, socket);
    if (fd !== undefined) return serveSoon(server, fd, unlimited);
    // Bun 1.4 gives the first request of such a connection no other time than those that follow.
    emitCounted(server, socket);
    unlimited(socket);
  },
};

/**
 * The descriptor of a socket that came from a process of a version up to 0.6, where the server can
 * serve it as one of its own.
 */
function takeOut(server: BindableServer, socket: LiveSocket): number | undefined {
  const libc = listenerOf(server) === undefined ? undefined : ifUsable(bunLibc());
  if (libc === undefined) return undefined;
  const fd = duplicate(libc, (handleOf(socket) as { fd?: number } | undefined)?.fd ?? -1);
  if (fd < 0) return undefined;
  socket.destroy(); // Nothing has been read from it.
  return fd;
}

/** The descriptors of those that came in a moment ago, by their servers. */
const arriving = new Map<BindableServer, number[]>();

/** Serves a connection together with those that come in at the same time. */
function serveSoon(
  server: BindableServer,
  fd: number,
  unlimited: (socket: LiveSocket) => void,
): void {
  const others = arriving.get(server);
  if (others !== undefined) return void others.push(fd);
  const all = [fd];
  arriving.set(server, all);
  serveAll(server, all, unlimited);
}

async function serveAll(
  server: BindableServer,
  all: number[],
  unlimited: (socket: LiveSocket) => void,
): Promise<void> {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, 0));
    const fds = all.splice(0);
    if (fds.length === 0) break;
    const libc = ifUsable(bunLibc());
    const listener = listenerOf(server);
    const left = libc && listener ? await serveOn(libc, server, listener, fds) : fds;
    for (const fd of left) unlimited(await serveInFront(server, fd));
  }
  arriving.delete(server);
}

/**
 * Serves a connection as one of node:net, where the server does not listen by itself, or does not
 * accept.
 */
async function serveInFront(server: BindableServer, fd: number): Promise<LiveSocket> {
  const net = await import("node:net");
  // It is connected already.
  const socket = net.connect({ fd } as object as { port: number }) as unknown as LiveSocket;
  emitCounted(server, socket);
  return socket;
}
