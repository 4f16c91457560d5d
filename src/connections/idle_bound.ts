/** The idle connections of bound servers. */
import type { Clock } from "../core/adapter.ts";
import { chunk } from "../core/chunk.ts";
import type { LiveSocket } from "../core/live.ts";
import type { ConnectionAdapter, IdleTaker } from "../core/socket_adapter.ts";
import { type HttpSocket, isIdle, type Response } from "../drain/keep_alive.ts";
import type { Link } from "../reload/handover.ts";
import type { HttpServer } from "../sockets/bindings.ts";
import type { IdleSource, OutgoingIdle } from "./idle.ts";
import { type ConnectionSender, departing, isGone } from "./sender.ts";

/**
 * How many are taken at once: for so many a client may have to wait, about a millisecond each on
 * Node 26.
 */
const BATCH = 64;

/**
 * Closes a connection that is not used for as long as the server keeps an idle one. The server
 * itself counts from the next answer on.
 */
function closeWhenIdle(clock: Clock, server: HttpServer["server"]): (socket: LiveSocket) => void {
  const { keepAliveTimeout = 0, keepAliveTimeoutBuffer = 0 } = server;
  return (given) => {
    if (keepAliveTimeout <= 0) return; // Never.
    const socket = given as HttpSocket;
    const { bytesRead } = socket;
    const stop = clock.timer(keepAliveTimeout + keepAliveTimeoutBuffer, () => {
      if (socket.bytesRead === bytesRead) socket.destroy();
    });
    socket.once("close", stop);
  };
}

/**
 * The servers that `token.bind` knows.
 *
 * @param servers Those whose idle connections move, as they are at the call.
 */
export function boundSource(
  adapter: ConnectionAdapter,
  clock: Clock,
  servers: () => readonly HttpServer[],
): IdleSource {
  const find = (key: string) => servers().find((server) => server.key === key)?.server;
  const { withoutHandles } = adapter;
  return {
    outgoing: (sender, { link }) => takeBound({ adapter, clock, servers, sender, link }),
    serve(key, socket) {
      const server = find(key);
      if (server === undefined) return false;
      adapter.serveIdle(server, socket, closeWhenIdle(clock, server));
      adapter.start(socket);
      return true;
    },
    serveDescriptor: withoutHandles && ((key, fd) => {
      const server = find(key);
      if (server !== undefined) withoutHandles.serve(server, fd, closeWhenIdle(clock, server));
      return server !== undefined;
    }),
  };
}

/** What it takes to move those of one reload. */
interface BoundMove {
  readonly adapter: ConnectionAdapter;
  readonly clock: Clock;
  readonly sender: ConnectionSender;
  readonly link: Link;
  servers(): readonly HttpServer[];
}

function takeBound(move: BoundMove): OutgoingIdle {
  const { adapter, clock, servers, sender, link } = move;
  const released = new Set<HttpSocket>();
  /** The answers after which a connection is idle. */
  const awaited = new WeakSet<object>();
  /** Takes connections out of servers that are not of node:net, as they were seen a moment ago. */
  let taker: IdleTaker | undefined;
  let isOver = false;
  const connections = () => servers().flatMap(({ connections }) => connections);

  /**
   * A client that asks all the time leaves its connection idle only for the moment in which its
   * answer travels.
   */
  function releaseAfter(response: Response, server: HttpServer, socket: HttpSocket): void {
    if (awaited.has(response)) return;
    awaited.add(response);
    response.once("close", () => {
      if (isOver) return;
      const mine = adapter.handle(socket) === undefined ? taker : undefined;
      if (mine === undefined) adapter.stop(socket);
      else mine.stop(socket);
      clock.timer(0, () => {
        if (mine !== undefined) {
          return isOver ? mine.start(socket) : sendDescriptors(move, mine, server, [socket]);
        }
        if (!isOver) release(server, socket);
        if (!released.has(socket)) adapter.start(socket);
      });
    });
  }

  function release(server: HttpServer, socket: HttpSocket): void {
    if (released.has(socket) || isGone(socket)) return;
    if (socket._httpMessage) return releaseAfter(socket._httpMessage, server, socket);
    if (adapter.handle(socket) === undefined || !isIdle(socket)) return;
    released.add(socket);
    sendSocket(adapter, sender, server, socket);
  }

  return {
    hasAny: () => link.sendsHandles && connections().length > 0,
    sendsDescriptors: () => adapter.withoutHandles !== undefined && servers().length > 0,
    *take() {
      taker = sender.takesDescriptors ? adapter.withoutHandles?.look() : undefined;
      for (const server of servers()) {
        for (const some of chunk(server.connections, BATCH)) {
          const withoutHandle = some.filter((socket) => adapter.handle(socket) === undefined);
          if (taker) sendDescriptors(move, taker, server, withoutHandle);
          for (const socket of some) release(server, socket);
          yield;
        }
      }
    },
    isBusy: () => connections().some((socket) => !socket.destroyed && !released.has(socket)),
    end() {
      isOver = true;
    },
    left: () => connections().filter(({ destroyed }) => !destroyed).length,
  };
}

function sendDescriptors(
  { adapter, clock, sender }: BoundMove,
  taker: IdleTaker,
  { key, server }: HttpServer,
  sockets: readonly HttpSocket[],
): void {
  for (const fd of taker.take(sockets)) {
    sender.add({
      group: key,
      shared: { fd },
      close: () => taker.close(fd),
      giveBack: () => adapter.withoutHandles?.serve(server, fd, closeWhenIdle(clock, server)),
    });
  }
}

function sendSocket(
  adapter: ConnectionAdapter,
  sender: ConnectionSender,
  { key, server }: HttpServer,
  socket: HttpSocket,
): void {
  adapter.stop(socket);
  socket.setTimeout(0); // The server would close it, and the new process has it perhaps.
  sender.add({
    ...departing(adapter, socket),
    group: key,
    giveBack() {
      if (server.keepAliveTimeout) socket.setTimeout(server.keepAliveTimeout);
      adapter.start(socket);
    },
  });
}
