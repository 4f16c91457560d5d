/**
 * Listening sockets of node:net, which Node, Bun and Deno all have. The module is loaded when the
 * first server listens.
 */
import type { Server } from "node:net";
import {
  descriptorOf,
  type Listener,
  type ListenSource,
  type RetainedSocket,
  type SocketAddress,
} from "../../src/core/socket_adapter.ts";
import {
  callOriginal,
  endWaiting,
  forgetOpened,
  isAnnounced,
  isOpened,
} from "../../src/core/marks.ts";
import type { BindableServer } from "../../src/core/token.ts";

function isAddress(value: unknown): value is SocketAddress {
  return typeof value === "object" && value !== null;
}

/** The handle below a server. Sent alone, it is a socket without a server. */
interface RawHandle {
  close(): void;
}

function isServer(handle: unknown): handle is Server {
  return typeof (handle as Partial<Server> | null)?.on === "function";
}

/** Keeps a handle that came over the channel. */
export function retainByHandle(handle: unknown): RetainedSocket | undefined {
  if (handle === undefined || handle === null || isServer(handle)) return undefined;
  return { source: { handle }, release: () => (handle as RawHandle).close() };
}

/** The address of a server, unless it is a path. */
export function addressOf(server: BindableServer): SocketAddress | undefined {
  const address = server.address();
  if (!isAddress(address)) return undefined;
  return { address: address.address, family: String(address.family), port: address.port };
}

/**
 * Calls `listen` of a server, and waits until it does.
 *
 * @param begun Called when `listen` has returned, before any listener of the application's.
 */
export function startListening(
  server: Server,
  what: object,
  begun: () => void = () => {},
): Promise<void> {
  const tellAgain = quietly(server);
  return new Promise<void>((resolve, reject) => {
    const fail = (error: Error) => {
      tellAgain(); // Before the application hears of it, which may remove its listeners.
      reject(error);
    };
    server.prependOnceListener("error", fail);
    callOriginal<Server, unknown[]>(
      server,
      server.listen as (...args: unknown[]) => unknown,
      what,
      () => {
        server.off("error", fail);
        resolve();
        tellAgain();
      },
    );
    begun();
  }).finally(tellAgain);
}

/**
 * Puts the application's listeners aside where it knows already that a server listens. Returns what
 * puts them back.
 */
export function quietly(server: Pick<Server, "rawListeners" | "off" | "on">): () => void {
  if (!isAnnounced(server)) return () => {};
  endWaiting(server);
  const listeners = server.rawListeners("listening") as (() => void)[];
  for (const listener of listeners) server.off("listening", listener);
  return () => {
    for (const listener of listeners.splice(0)) server.on("listening", listener);
  };
}

/**
 * Makes a server of the application listen.
 *
 * @param begun As that of `startListening`.
 */
export async function listenDirectly(
  server: BindableServer,
  source: ListenSource,
  begun?: () => void,
): Promise<Listener> {
  const own = server as unknown as Server;
  // A server that came over the channel accepts already: its connections go to the application's
  // server.
  if ("handle" in source && isServer(source.handle)) {
    source.handle.on("connection", (socket) => own.emit("connection", socket));
  }
  let isClosed = false;
  const net = await import("node:net");
  const what = "handle" in source
    ? source.handle as Server
    : "options" in source
    ? source.options
    : { fd: descriptorOf(source) };
  if (isOpened(own)) forgetOpened(own);
  else await startListening(own, what, begun);
  return {
    handle: own,
    get rawHandle() {
      return (own as unknown as { _handle?: RawHandle | null })._handle ?? undefined;
    },
    get isOpen() {
      return !isClosed && own.listening;
    },
    address: addressOf(server),
    close() {
      if (isClosed) return;
      isClosed = true;
      // Not the method of http.Server, which also closes connections that are, or seem, idle.
      net.Server.prototype.close.call(own);
    },
  };
}

/** Whether a server accepts connections on a unix socket. */
export async function isServed(path: string): Promise<boolean> {
  const net = await import("node:net");
  return await new Promise((resolve) => {
    const socket = net.connect(path, () => {
      socket.destroy();
      resolve(true);
    });
    socket.on("error", () => resolve(false));
  });
}
