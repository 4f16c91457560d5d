/** Listening sockets on Bun. */
import type { Server } from "node:net";
import type { HeldSocket, Listener, ListenSource } from "../../core/socket_adapter.ts";
import type { BindableServer } from "../../core/token.ts";
import { duplicate } from "../../linux/transplant.ts";
import { bunLibc } from "./libc.ts";
import { addressOf, quietly, startListening } from "../node/sockets.ts";

/** The members that Bun's http.Server hides under symbols: the options that it was made with. */
function secrets(server: object): { tls?: unknown; options?: object } {
  return Object.fromEntries(
    Object.getOwnPropertySymbols(server).map((symbol) => [symbol.description, (server as Record<symbol, unknown>)[symbol]]),
  );
}

/**
 * Makes a server listen through a net.Server in front of it: Bun's http.Server accepts neither a handle nor a file descriptor (it listens on a
 * port of its own choice instead), but it serves the connections of its "connection" event.
 */
export async function listenInFront(server: BindableServer, source: ListenSource): Promise<Listener> {
  const { allowHalfOpen = true, pauseOnConnect = false } = server as { allowHalfOpen?: boolean; pauseOnConnect?: boolean };
  let target = server;
  const accept = (socket: unknown) => void target.emit("connection", socket);
  let front: Server;
  if ("handle" in source) {
    front = source.handle as Server;
    Object.assign(front, { allowHalfOpen, pauseOnConnect, noDelay: true });
    front.on("connection", accept);
  }
  const { tls, options } = secrets(server);
  if (tls && "keepAliveTimeout" in server) {
    // Bun does no TLS for such a connection.
    const module = await import("node:tls");
    target = module.createServer(options ?? {}, (socket) => server.emit("connection", socket));
    target.on("tlsClientError", (error, socket) => server.emit("tlsClientError", error, socket));
  }
  if (!("handle" in source)) {
    const net = await import("node:net");
    front = net.createServer({ allowHalfOpen, pauseOnConnect, noDelay: true }, accept);
    await startListening(front, "fd" in source ? { fd: source.fd } : source.options);
  }
  const address = server.address;
  server.address = () => front.listening ? front.address() : null;
  shareConnections(server, front!);
  const tellAgain = quietly(server as unknown as Server);
  closeInFront(server as unknown as Server, front!);
  server.emit("listening");
  tellAgain();
  return {
    handle: front!,
    hold: () => Promise.resolve(holdDescriptor((front as unknown as { _handle?: { fd?: number } | null })._handle?.fd)),
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
  const listens = (value: boolean) => Object.defineProperty(server, "listening", { value, configurable: true, writable: true });
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

/** A second descriptor of a socket, which stays open when the first one is closed. */
function holdDescriptor(fd: number | undefined): HeldSocket | undefined {
  const libc = bunLibc();
  if (typeof libc === "string" || fd === undefined || fd < 0) return undefined;
  const held = duplicate(libc, fd);
  return held < 0 ? undefined : { source: { fd: held }, release: () => void libc.close(held) };
}
