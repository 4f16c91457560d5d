/**
 * Moves the connections of HTTP/1 servers that wait for their next request, so that no client has to connect again. They move when the new
 * process has passed its probation: should it die before, no connection dies with it.
 */
import type { Clock } from "../core/adapter.ts";
import type { LiveSocket } from "../core/live.ts";
import { pause } from "../core/pause.ts";
import type { ConnectionAdapter, IdleTaker } from "../core/socket_adapter.ts";
import { type HttpSocket, isIdle, type Response } from "../drain/keep_alive.ts";
import type { ProgramContext } from "../reload/context.ts";
import type { Handover, OutgoingHandover, OutgoingReload } from "../reload/handover.ts";
import type { HttpServer } from "../sockets/http_server.ts";
import { createConnectionSender, departing, isGone } from "./sender.ts";
import { receiveConnections } from "./receiver.ts";

/** How long to wait for connections to become idle. Those that are busy for longer are drained. */
const MOVE_TIMEOUT_MS = 1_000;
/** Milliseconds between two looks at the connections that were busy. */
const RETRY_MS = 10;

/** The handover of idle connections. */
export function createIdleConnections(
  adapter: ConnectionAdapter | undefined,
  program: ProgramContext,
  servers: () => readonly HttpServer[],
): Handover {
  const name = "the idle connections";
  if (adapter === undefined) return { name };

  return {
    name,
    outgoing: (reload) => sendIdle(adapter, program, servers, reload),
    incoming(arrival) {
      const find = (key: string) => servers().find((server) => server.key === key)?.server;
      const { serveIdleDescriptor } = adapter;
      receiveConnections(adapter, arrival, {
        serve(key, socket) {
          const server = find(key);
          if (server === undefined) return false;
          adapter.serveIdle(server, socket, closeWhenIdle(program.clock, server));
          adapter.start(socket);
          return true;
        },
        ...(serveIdleDescriptor && {
          serveDescriptor(key, fd) {
            const server = find(key);
            if (server !== undefined) serveIdleDescriptor(server, fd, closeWhenIdle(program.clock, server));
            return server !== undefined;
          },
        }),
      });
      return {};
    },
  };
}

/** Closes a connection that is not used for as long as the server keeps an idle one. The server itself counts from the next answer on. */
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

function sendIdle(
  adapter: ConnectionAdapter,
  { clock }: ProgramContext,
  servers: () => readonly HttpServer[],
  reload: OutgoingReload,
): OutgoingHandover {
  const { link, signal } = reload;
  const sender = createConnectionSender(adapter.window, clock, reload);
  const released = new Set<HttpSocket>();
  /** The answers after which a connection is idle. */
  const awaited = new WeakSet<object>();
  /** Takes connections out of servers that are not of node:net, as they were seen a moment ago. */
  let taker: IdleTaker | undefined;
  let isOver = false;
  /** How many stay here. Known when the others have moved. */
  let left: number | undefined;
  const connections = () => servers().flatMap(({ connections }) => connections);

  /** A client that asks all the time leaves its connection idle only for the moment in which its answer travels. */
  function releaseAfter(response: Response, server: HttpServer, socket: HttpSocket): void {
    if (awaited.has(response)) return;
    awaited.add(response);
    response.once("close", () => {
      if (isOver) return;
      const mine = adapter.handle(socket) === undefined ? taker : undefined;
      if (mine === undefined) adapter.stop(socket);
      else mine.stop(socket);
      clock.timer(0, () => {
        if (mine !== undefined) return isOver ? mine.start(socket) : take(mine, server, [socket]);
        if (!isOver) release(server, socket);
        if (!released.has(socket)) adapter.start(socket);
      });
    });
  }

  function release(server: HttpServer, socket: HttpSocket): void {
    if (released.has(socket) || isGone(socket)) return;
    if (socket._httpMessage) return releaseAfter(socket._httpMessage, server, socket);
    if (adapter.handle(socket) !== undefined && isIdle(socket)) send(server, socket);
  }

  function take(taker: IdleTaker, { key, server }: HttpServer, sockets: readonly HttpSocket[]): void {
    for (const fd of taker.take(sockets)) {
      sender.add({
        group: key,
        shared: { fd },
        close: () => taker.close(fd),
        giveBack: () => adapter.serveIdleDescriptor?.(server, fd, closeWhenIdle(clock, server)),
      });
    }
  }

  function send({ key, server }: HttpServer, socket: HttpSocket): void {
    adapter.stop(socket);
    socket.setTimeout(0); // The server would close it, and the new process has it perhaps.
    released.add(socket);
    sender.add({
      ...departing(adapter, socket),
      group: key,
      giveBack() {
        if (server.keepAliveTimeout) socket.setTimeout(server.keepAliveTimeout);
        adapter.start(socket);
      },
    });
  }

  async function move(hurry: AbortSignal): Promise<void> {
    await sender.tell("begin");
    for (const begun = clock.now(); clock.now() - begun < MOVE_TIMEOUT_MS; await pause(clock, RETRY_MS)) {
      taker = sender.takesDescriptors ? adapter.lookForIdle?.() : undefined;
      for (const server of servers()) {
        if (taker) take(taker, server, server.connections.filter((socket) => adapter.handle(socket) === undefined));
        for (const socket of server.connections) release(server, socket);
      }
      await sender.sendAll();
      if (signal.aborted || hurry.aborted) return;
      // Some may have been released meanwhile.
      if (connections().every((socket) => socket.destroyed || released.has(socket))) return await sender.sendAll();
    }
  }

  return {
    sendsDescriptors: () => adapter.lookForIdle !== undefined && servers().length > 0,
    offer: sender.open,
    async beforeRetire(hurry) {
      if (!link.sendsHandles || connections().length === 0) return;
      await move(hurry).catch(() => {}); // The new process is gone, or hangs: what is left is drained.
      isOver = true;
      sender.finish();
      left = connections().filter(({ destroyed }) => !destroyed).length;
    },
    moved() {
      const { moved, milliseconds } = sender;
      return left === undefined ? undefined : { kind: "idle", moved, left, milliseconds };
    },
    rollback() {
      isOver = true;
      sender.giveBack();
    },
  };
}
