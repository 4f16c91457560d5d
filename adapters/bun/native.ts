/** Servers of Bun.serve whose sockets are handed over. */
import { GOING_AWAY, GOING_AWAY_REASON } from "../../src/core/going_away.ts";
import { originalOf } from "../../src/core/marks.ts";
import type {
  ActivatedAddress,
  AdoptedServer,
  NativeConnections,
  NativeHost,
  NativeServe,
  ServeFunction,
} from "../../src/core/native.ts";
import type { FetchHandler } from "../../src/core/token.ts";
import { isServedAt } from "../../src/linux/listening.ts";
import { ifUsable } from "../shared/libc.ts";
import { choosePlace, createNativeActivation } from "../shared/native_activation.ts";
import { type BunWebSocket, closeWhenSent } from "./close_when_sent.ts";
import { bunLibc } from "./libc.ts";

type Listener = (socket: BunWebSocket, ...rest: unknown[]) => unknown;

/** The options of Bun.serve that are looked at. */
interface Options {
  readonly port?: unknown;
  readonly hostname?: unknown;
  readonly unix?: unknown;
  readonly tls?: unknown;
  readonly fetch?: FetchHandler;
  readonly routes?: Readonly<Record<string, unknown>>;
  readonly websocket?: Readonly<Record<string, unknown>> & {
    readonly open?: Listener;
    readonly close?: Listener;
  };
}

/** A server of Bun.serve. */
interface Server {
  readonly port?: number;
  readonly hostname?: string;
  readonly url: URL;
  readonly address: object | string | null;
  readonly pendingRequests: number;
  readonly pendingWebSockets: number;
  reload(options: object): Server;
  stop(closeActive?: boolean): Promise<void>;
  /** Since Bun 1.4, and not documented. */
  closeIdleConnections?(): void;
}

/** The longest body that is read although the application leaves it, in bytes. */
const REST_BYTES = 2 ** 20;

/**
 * The same options, some of them replaced. An application may pass an object of a class, such as
 * Hono's.
 */
export function override(options: object, overrides: object): object {
  return Object.assign(Object.create(options), overrides);
}

/** What is made of the handlers, and of the responses that are routes. */
interface Wrapper {
  wrap(handler: FetchHandler): FetchHandler;
  still?(response: Response): FetchHandler;
}

/**
 * A route that is wrapped. What is neither a function nor a response, such as a page, stays as it
 * is.
 */
function wrappedRoute(route: unknown, wrapper: Wrapper): unknown {
  if (typeof route === "function") return wrapper.wrap(route as FetchHandler);
  if (route instanceof Response) return wrapper.still?.(route) ?? route;
  if (
    typeof route !== "object" || route === null || Object.getPrototypeOf(route) !== Object.prototype
  ) return route;
  const methods = Object.entries(route);
  if (!methods.every(([name]) => /^[A-Z]+$/.test(name))) return route;
  return Object.fromEntries(
    methods.map(([name, handler]) => [name, wrappedRoute(handler, wrapper)]),
  );
}

function wrappedHandlers({ fetch, routes }: Options, wrapper: Wrapper): Options {
  return {
    ...(typeof fetch === "function" && { fetch: wrapper.wrap(fetch) }),
    ...(routes &&
      {
        routes: Object.fromEntries(
          Object.entries(routes).map(([path, route]) => [path, wrappedRoute(route, wrapper)]),
        ),
      }),
  };
}

/**
 * The answer, when the body of the request has come: Bun 1.4 takes a connection for idle whose
 * answer was sent before that.
 */
async function afterBody(
  answer: ReturnType<FetchHandler>,
  request: Request,
): Promise<Response | undefined | void> {
  const response = await answer;
  const isUnread = !request.bodyUsed &&
    Number(request.headers.get("content-length") ?? REST_BYTES) < REST_BYTES;
  if (isUnread) await request.arrayBuffer().catch(() => {});
  return response;
}

/** While connections move. */
const readingBodies: Wrapper = {
  wrap: (handler) =>
    function (this: unknown, request: Request, ...more: unknown[]) {
      const answer = handler.call(this, request, ...more);
      return request.body === null ? answer : afterBody(answer, request);
    },
};

/** The WebSockets of a server, to close them. */
interface WebSockets {
  readonly open: Set<BunWebSocket>;
  /** Whether those that are opened from now on are closed as well. */
  areGoing: boolean;
}

const closeSocket = (socket: BunWebSocket) => closeWhenSent(socket, GOING_AWAY, GOING_AWAY_REASON);

/** Knows the WebSockets of a server. */
function following(websocket: Options["websocket"], sockets: WebSockets): Options["websocket"] {
  if (websocket === undefined) return undefined;
  return override(websocket, {
    open(this: unknown, socket: BunWebSocket, ...rest: unknown[]) {
      sockets.open.add(socket);
      if (sockets.areGoing) queueMicrotask(() => closeSocket(socket));
      return websocket.open?.call(this, socket, ...rest);
    },
    close(this: unknown, socket: BunWebSocket, ...rest: unknown[]) {
      sockets.open.delete(socket);
      return websocket.close?.call(this, socket, ...rest);
    },
  }) as Options["websocket"];
}

/** What a server reports that has a socket which this process was started with. */
function reportedAt(
  { hostname: own, port }: ActivatedAddress,
  { hostname = own }: Options,
  { url }: Server,
): Record<string, unknown> {
  const name = String(hostname);
  const host = ["0.0.0.0", "::"].includes(name)
    ? "localhost"
    : name.includes(":")
    ? `[${name}]`
    : name;
  const address = { address: own, family: own.includes(":") ? "IPv6" : "IPv4", port };
  return { hostname, port, address, url: `${url.protocol}//${host}:${port}/` };
}

/** A server that is open, and the options that it has at the moment. */
class OpenServer {
  readonly server: Server;
  readonly #host: NativeHost;
  readonly #reload: Server["reload"];
  readonly sockets: WebSockets = { open: new Set(), areGoing: false };
  /** What the application wants the server to do. */
  #current: Options;
  #wrapper: Wrapper | undefined;
  readonly #entries: Record<string, FetchHandler> = {};
  /** The responses carry `Connection: close`. */
  readonly #closing: Wrapper = {
    wrap: (handler) => this.#wrap(handler),
    still: (response) => this.#wrap(() => response.clone()),
  };

  /** @param begin Opens a server with these options. */
  constructor(host: NativeHost, options: Options, begin: (options: object) => Server) {
    this.#host = host;
    this.#current = options;
    this.server = begin(this.#configure(options));
    this.#reload = this.server.reload.bind(this.server);
    this.define("reload", (next: Options) => {
      this.#current = next;
      this.#reconfigure();
      return this.server;
    });
  }

  define(name: PropertyKey, value: unknown): void {
    Object.defineProperty(this.server, name, { configurable: true, enumerable: true, value });
  }

  /** Hears when the application stops the server. Returns Bun's function that does it. */
  onStop(stopped: () => void): Server["stop"] {
    const stop = this.server.stop.bind(this.server);
    const hear = (isAtOnce?: boolean) => {
      stopped();
      return stop(isAtOnce);
    };
    this.define("stop", hear);
    this.define(Symbol.dispose, () => void hear(true));
    return stop;
  }

  setClosing(isClosing: boolean): void {
    this.#setWrapper(isClosing ? this.#closing : undefined);
  }

  /** Its connections; `undefined` where Bun is too old. */
  connections(): NativeConnections | undefined {
    const { closeIdleConnections } = this.server;
    if (closeIdleConnections === undefined) return undefined;
    return {
      watch: (isWatching) => this.#setWrapper(isWatching ? readingBodies : undefined),
      closeIdle: () => closeIdleConnections.call(this.server),
      asksFirst: true, // Bun 1.4 closes it after 10 s, whatever `idleTimeout` is.
      enter: (path, handler) => {
        this.#entries[path] = handler;
        this.#reconfigure();
        return () => {
          delete this.#entries[path];
          this.#reconfigure();
        };
      },
    };
  }

  #wrap(handler: FetchHandler): FetchHandler {
    return this.#host.wrap(handler, () => this.#wrapper === this.#closing);
  }

  /** Static routes cannot be wrapped before, and nothing else costs anything before. */
  #setWrapper(next: Wrapper | undefined): void {
    if (this.#wrapper === next) return;
    this.#wrapper = next;
    this.#reconfigure();
  }

  #reconfigure(): void {
    this.#reload(this.#configure(this.#current));
  }

  #configure(options: Options): object {
    const websocket = following(options.websocket, this.sockets);
    const handlers = this.#wrapper && wrappedHandlers(options, this.#wrapper);
    const isEntered = Object.keys(this.#entries).length > 0;
    return override(options, {
      ...(websocket && { websocket }),
      ...handlers,
      ...(isEntered && { routes: { ...(handlers ?? options).routes, ...this.#entries } }),
    });
  }
}

function open(
  serve: ServeFunction,
  host: NativeHost,
  options: Options,
  { bun, reusePort }: { bun: object; reusePort: boolean },
): Server {
  const path = typeof options.unix === "string" && options.unix !== "" ? options.unix : undefined;
  const { port, hostname } = options;
  const { placement, where } = choosePlace(host, { path, port, hostname }, "unix", reusePort);
  const { key, inherited, activated, temporaryPath } = placement;
  const opened = new OpenServer(
    host,
    options,
    (configured) => serve.call(bun, override(configured, where)),
  );
  const { server, sockets } = opened;
  const own = temporaryPath ?? server.port ?? 0;
  const url = path === undefined ? server.url.href : `unix://${path}`;
  const address = path ?? server.address;
  const reported = inherited?.reported ??
    (activated === undefined
      ? { hostname: server.hostname, port: server.port, address, url }
      : reportedAt(activated, options, server));
  if (inherited !== undefined || activated !== undefined || path !== undefined) {
    // Its own socket is not the one that it will have; Bun asks the kernel for the port, which is 0
    // when the socket was taken away.
    for (const name of ["hostname", "port", "address"]) {
      if (reported[name] !== undefined) opened.define(name, reported[name]);
    }
    opened.define("url", new URL(String(reported.url)));
  }
  const stop = opened.onStop(() => host.remove(adopted));
  const adopted: AdoptedServer = {
    key,
    path,
    own,
    reported,
    connections: path === undefined && !options.tls ? opened.connections() : undefined,
    activated: activated?.fd,
    setClosing: (isClosing) => opened.setClosing(isClosing),
    unannounced() {
      // Two wrapped handlers may answer one request. Bun does not count one whose client has left.
      const own = [...host.running()].filter(({ more, request }) =>
        more === server && !(request as Request).signal.aborted
      );
      return server.pendingRequests - new Set(own.map(({ request }) => request)).size;
    },
    async finish(idle) {
      sockets.areGoing = true;
      for (const socket of [...sockets.open]) closeSocket(socket);
      await idle;
      await stop();
    },
    cut() {
      const left = server.pendingRequests + server.pendingWebSockets;
      void stop(true);
      return left;
    },
  };
  host.add(adopted);
  return server;
}

/**
 * Bun.serve, which the token can adopt.
 *
 * @param reusePort Whether several processes have sockets at an address: instances, and generations
 * where no socket can be handed over.
 * @param activated How many sockets this process was started with.
 */
export function bunServe(
  bun: { readonly serve: unknown },
  reusePort: boolean,
  activated: number,
  variable: (name: string) => string | undefined,
): NativeServe {
  // As Bun 1.4 has it.
  const defaultPort = () =>
    variable("BUN_PORT") ?? variable("PORT") ?? variable("NODE_PORT") ?? 3000;
  return {
    name: "Bun.serve",
    takesRoutes: true,
    is: (serve) => originalOf(serve) === originalOf(bun.serve),
    isServed(path) {
      const libc = ifUsable(bunLibc());
      return libc && isServedAt(libc, path);
    },
    activated: createNativeActivation(activated, bunLibc, defaultPort),
    open: (adopt, app, where) =>
      adopt(bun.serve as ServeFunction)({
        ...app,
        ...("path" in where ? { unix: where.path } : { port: where.port, hostname: where.host }),
      }).port,
    adopt: (serve, host) => (options: Options) =>
      open(originalOf(serve), host, options, { bun, reusePort }),
  };
}
