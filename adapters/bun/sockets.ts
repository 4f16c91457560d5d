/** Listening sockets on Bun. */
import type { Server } from "node:net";
import { descriptorOf, type Listener, type ListenSource } from "../../src/core/socket_adapter.ts";
import type { BindableServer } from "../../src/core/token.ts";
import { retainDescriptor } from "../shared/libc.ts";
import { bunLibc } from "./libc.ts";
import { addressOf, quietly, startListening } from "../shared/node_sockets.ts";

/**
 * The members that Bun's http.Server hides under symbols: the options that it was made with, and
 * the server of Bun.serve that it is.
 */
export function secrets(
  server: object,
): { tls?: unknown; options?: object; "::bunternal::"?: { stop(): unknown } } {
  return Object.fromEntries(
    Object.getOwnPropertySymbols(server).map((
      symbol,
    ) => [symbol.description, (server as Record<symbol, unknown>)[symbol]]),
  );
}

/**
 * A net.Server in front of a server, which serves its connections. Bun's http.Server accepts
 * neither a handle nor a file descriptor: it listens on a port of its own choice instead.
 *
 * @param what The options of `listen`, or a server that listens already.
 */
export async function createFront(server: BindableServer, what: object | Server): Promise<Server> {
  const { allowHalfOpen = true, pauseOnConnect = false } = server as {
    allowHalfOpen?: boolean;
    pauseOnConnect?: boolean;
  };
  let target = server;
  const accept = (socket: unknown) => void target.emit("connection", socket);
  const settings = { allowHalfOpen, pauseOnConnect, noDelay: true };
  const present = "on" in what ? Object.assign(what, settings) : undefined;
  present?.on("connection", accept);
  const { tls, options } = secrets(server);
  if (tls && "keepAliveTimeout" in server) {
    // Bun does no TLS for such a connection.
    const module = await import("node:tls");
    target = module.createServer(options ?? {}, (socket) => server.emit("connection", socket));
    target.on("tlsClientError", (error, socket) => server.emit("tlsClientError", error, socket));
  }
  if (present !== undefined) return present;
  const net = await import("node:net");
  const front = net.createServer(settings, accept);
  await startListening(front, what);
  return front;
}

/**
 * Makes a server listen through a net.Server in front of it: where the C library cannot be called.
 */
export async function listenInFront(
  server: BindableServer,
  source: ListenSource,
): Promise<Listener> {
  const front = await createFront(
    server,
    "handle" in source
      ? source.handle as Server
      : "options" in source
      ? source.options
      : { fd: descriptorOf(source) },
  );
  const address = server.address;
  server.address = () => front.listening ? front.address() : null;
  shareConnections(server, front);
  const tellAgain = quietly(server as unknown as Server);
  closeInFront(server as unknown as Server, front);
  server.emit("listening");
  tellAgain();
  return {
    handle: front,
    retain: () =>
      Promise.resolve(
        retainDescriptor(
          bunLibc(),
          (front as unknown as { _handle?: { fd?: number } | null })._handle?.fd,
        ),
      ),
    get isOpen() {
      return front.listening;
    },
    address: addressOf(server),
    close() {
      server.address = address;
      front.close();
    },
  };
}

/** The application can close a server, and look whether it listens. */
function closeInFront(server: Server, front: Server): void {
  const { close } = server;
  const listens = (value: boolean) =>
    Object.defineProperty(server, "listening", { value, configurable: true, writable: true });
  listens(true);
  front.once("close", () => listens(false));
  server.close = function (callback) {
    if (!front.listening) return close.call(server, callback);
    if (callback !== undefined) server.once("close", () => callback());
    listens(false);
    front.close(() => server.emit("close"));
    return server;
  };
}

/** The connections in front of a server are those of the server: it counts and limits them. */
function shareConnections(server: BindableServer, front: Server & { _connections?: number }): void {
  Object.defineProperty(front, "maxConnections", {
    get: () => (server as { maxConnections?: number }).maxConnections,
    configurable: true,
  });
  Object.defineProperties(server, {
    _connections: {
      get: () => front._connections,
      set: (count: number) => void (front._connections = count),
      configurable: true,
    },
    getConnections: {
      value(callback: (error: null, count: number) => void) {
        callback(null, front._connections ?? 0);
        return server;
      },
      configurable: true,
      writable: true,
    },
  });
}
