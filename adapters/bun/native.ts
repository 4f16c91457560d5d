/** Servers of Bun.serve whose sockets are handed over. */
import { originalOf } from "../../core/marks.ts";
import type { NativeHost, NativeServe, Placement, ServeFunction } from "../../core/native.ts";
import type { FetchHandler } from "../../core/token.ts";
import { isServedAt } from "../../linux/listening.ts";
import { networkPlace } from "../private_place.ts";
import { bunLibc } from "./libc.ts";

/** A WebSocket of Bun's. */
interface Socket {
  close(code?: number, reason?: string): void;
}
type Listener = (socket: Socket, ...rest: unknown[]) => unknown;

/** The options of Bun.serve that are looked at. */
interface Options {
  readonly port?: unknown;
  readonly hostname?: unknown;
  readonly unix?: unknown;
  readonly fetch?: FetchHandler;
  readonly routes?: Readonly<Record<string, unknown>>;
  readonly websocket?: Readonly<Record<string, unknown>> & { readonly open?: Listener; readonly close?: Listener };
}

/** A server of Bun.serve. */
interface Server {
  readonly port?: number;
  readonly hostname?: string;
  readonly url: URL;
  readonly pendingRequests: number;
  readonly pendingWebSockets: number;
  reload(options: object): Server;
  stop(closeActive?: boolean): Promise<void>;
}

/** RFC 6455, section 7.4.1: the endpoint is going away. */
const GOING_AWAY = 1001;

/** The same options, some of them replaced. An application may pass an object of a class, such as Hono's. */
export function override(options: object, overrides: object): object {
  return Object.assign(Object.create(options), overrides);
}

/** A route whose responses carry `Connection: close`. What is neither a function nor a response, such as a page, stays as it is. */
function closingRoute(route: unknown, host: NativeHost): unknown {
  if (typeof route === "function") return host.wrap(route as FetchHandler);
  if (route instanceof Response) return host.wrap(() => route.clone());
  if (typeof route !== "object" || route === null || Object.getPrototypeOf(route) !== Object.prototype) return route;
  const methods = Object.entries(route);
  if (!methods.every(([name]) => /^[A-Z]+$/.test(name))) return route;
  return Object.fromEntries(methods.map(([name, handler]) => [name, closingRoute(handler, host)]));
}

function closingHandlers({ fetch, routes }: Options, host: NativeHost): Options {
  return {
    ...(typeof fetch === "function" && { fetch: host.wrap(fetch) }),
    ...(routes &&
      { routes: Object.fromEntries(Object.entries(routes).map(([path, route]) => [path, closingRoute(route, host)])) }),
  };
}

/** Knows the WebSockets of a server, to close them. */
function following(websocket: Options["websocket"], sockets: Set<Socket>): Options["websocket"] {
  if (websocket === undefined) return undefined;
  return override(websocket, {
    open(this: unknown, socket: Socket, ...rest: unknown[]) {
      sockets.add(socket);
      return websocket.open?.call(this, socket, ...rest);
    },
    close(this: unknown, socket: Socket, ...rest: unknown[]) {
      sockets.delete(socket);
      return websocket.close?.call(this, socket, ...rest);
    },
  }) as Options["websocket"];
}

function open(
  serve: ServeFunction,
  host: NativeHost,
  options: Options,
  { bun, reusePort }: { bun: object; reusePort: boolean },
): Server {
  const path = typeof options.unix === "string" && options.unix !== "" ? options.unix : undefined;
  const { port, hostname } = options;
  const placement: Placement = host.place(path !== undefined ? { path } : { port, hostname });
  const where = path !== undefined ? { unix: placement.made } : networkPlace(placement, reusePort);
  const sockets = new Set<Socket>();
  /** What the application wants the server to do. */
  let current: Options = options;
  let isClosing = false;
  const configure = (options: Options) => {
    const websocket = following(options.websocket, sockets);
    return override(options, { ...(websocket && { websocket }), ...(isClosing && closingHandlers(options, host)) });
  };
  const server: Server = serve.call(bun, override(configure(options), where));
  const own = placement.made ?? server.port ?? 0;
  const reload = server.reload.bind(server);
  const define = (name: string, value: unknown) =>
    Object.defineProperty(server, name, { configurable: true, enumerable: true, value });
  define("reload", (next: Options) => {
    current = next;
    reload(configure(next));
    return server;
  });
  const url = path === undefined ? server.url.href : `unix://${path}`;
  const reported = placement.inherited?.reported ?? { hostname: server.hostname, port: server.port, url };
  if (placement.inherited !== undefined || path !== undefined) {
    // Its own socket is not the one that it will have; Bun asks the kernel for the port, which is 0 when the socket was taken away.
    for (const name of ["hostname", "port"]) if (reported[name] !== undefined) define(name, reported[name]);
    define("url", new URL(String(reported.url)));
  }

  host.add({
    key: placement.key,
    path,
    own,
    reported,
    setClosing(closing) {
      if (isClosing === closing) return;
      isClosing = closing;
      reload(configure(current)); // Static routes cannot be wrapped before, and nothing else costs anything before.
    },
    async finish(idle) {
      for (const socket of [...sockets]) socket.close(GOING_AWAY, "the server is being replaced");
      await idle;
      await server.stop();
    },
    cut() {
      const left = server.pendingRequests + server.pendingWebSockets;
      void server.stop(true);
      return left;
    },
  });
  return server;
}

/**
 * Bun.serve, which the token can adopt.
 *
 * @param reusePort Whether several processes have sockets at an address: instances, and generations where no socket can be handed over.
 */
export function bunServe(bun: { readonly serve: unknown }, reusePort: boolean): NativeServe {
  return {
    name: "Bun.serve",
    is: (serve) => originalOf(serve) === originalOf(bun.serve),
    isServed(path) {
      const libc = bunLibc();
      return typeof libc === "string" ? undefined : isServedAt(libc, path);
    },
    open: (adopt, app, where) =>
      adopt(bun.serve as ServeFunction)({
        ...app,
        ...("path" in where ? { unix: where.path } : { port: where.port, hostname: where.host }),
      }).port,
    adopt: (serve, host) => (options: Options) => open(originalOf(serve), host, options, { bun, reusePort }),
  };
}
