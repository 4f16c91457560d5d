/**
 * Serves a fetch handler, with reloads: the function behind `reload-self serve`. Deno and Bun use
 * their own servers, Node uses [srvx](https://srvx.h3.dev).
 *
 * @example
 * ```ts
 * import { serve } from "@js0/reload-self/serve";
 *
 * const { url, token } = await serve({ fetch: () => new Response("hello") }, { port: 0 });
 * console.log(await (await fetch(url)).text());
 * token.cancel();
 * await token.drained();
 * ```
 *
 * @module
 */
import type { RequestListener } from "node:http";
import { registry } from "./adapters/registry.ts";
import { checkOptions, show } from "./src/core/check.ts";
import type { ServedApp, ServedAt } from "./src/core/native.ts";
import { listen, type ListenOptions, type Token } from "./mod.ts";

/**
 * An object with a fetch handler: a module with `export default { fetch }`, an app of Hono, H3 or
 * Elysia. What else it exports for Bun is honoured: `port`, `hostname`, `unix`, `tls`, `error`, and
 * on Bun `routes`, `websocket`, `idleTimeout`, `maxRequestBodySize`, `development`.
 */
export interface FetchApp {
  /** Answers a request. The other arguments differ from runtime to runtime. */
  // deno-lint-ignore no-explicit-any
  fetch(request: Request, ...more: any[]): Response | Promise<Response>;
}

/** The options of `serve()`. */
export interface ServeOptions {
  /**
   * The TCP port; 0 lets the kernel choose one, which all generations keep. Default: that of the
   * app, the variable PORT, or 8000.
   */
  port?: number;
  /**
   * The address to listen on. Default: that of the app, the variable HOST, or `0.0.0.0`, all
   * addresses of IPv4.
   */
  host?: string;
  /** The path of a unix socket, instead of a port. */
  unix?: string;
  /** The options of `listen()`. */
  listen?: ListenOptions;
}

/** A running server. */
export interface Served {
  /** Its address: `http://...`, or `unix:` and the path. */
  readonly url: string;
  /** The token of the process. */
  readonly token: Token;
}

const DEFAULT_PORT = 8000;

/**
 * Serves a fetch handler, and reloads like `listen()`. When the token is cancelled, the server is
 * drained; the process ends when it has nothing else to do.
 *
 * @param app The handler, or an object with a method `fetch`.
 * @returns Resolves when the server listens, or will as soon as this process is in charge.
 * @throws {TypeError} When an option is wrong, or when there is no fetch handler.
 * @throws {Error} When the address cannot be listened on.
 *
 * @example
 * ```ts
 * import { serve } from "@js0/reload-self/serve";
 *
 * const { token } = await serve((request) => new Response(new URL(request.url).pathname), { port: 0 });
 * token.cancel();
 * ```
 */
export async function serve(
  app: FetchApp | FetchApp["fetch"],
  options: ServeOptions = {},
): Promise<Served> {
  checkOptions("serve", options, ["port", "host", "unix", "listen"]);
  const fetch = typeof app === "function" ? app : app?.fetch?.bind(app);
  if (typeof fetch !== "function") {
    throw new TypeError(`serve: there must be a fetch handler, not ${show(app)}`);
  }
  const exported = typeof app === "function" ? {} : app as ExportedOptions;
  const { service } = registry.adapter;
  const variable = (name: string) => service?.variable(name) || undefined;
  const host = options.host ?? text(exported.hostname) ?? variable("HOST") ?? "0.0.0.0";
  const port = options.port ?? exported.port ?? variable("PORT") ?? DEFAULT_PORT;
  const unix = options.unix ?? (options.port === undefined ? text(exported.unix) : undefined);
  const where = unix !== undefined ? { path: unix } : { port: parsePort(port), host };
  const token = listen(options.listen ?? {});

  const listening = await start(token, { ...honoured(exported), fetch }, where);
  if (unix !== undefined) return { url: `unix:${unix}`, token };
  const name = host === "0.0.0.0" || host === "::"
    ? "localhost"
    : host.includes(":")
    ? `[${host}]`
    : host;
  return { url: `${exported.tls ? "https" : "http"}://${name}:${listening}/`, token };
}

/**
 * What a module exports for Bun besides its handler. Apps of frameworks have members of the same
 * names: their `routes` is a list.
 */
interface ExportedOptions extends Omit<ServedApp, "fetch"> {
  readonly port?: number | string;
  readonly hostname?: unknown;
  readonly unix?: unknown;
}

function text(value: unknown): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}

const isPlain = (value: unknown) =>
  typeof value === "object" && value !== null && Object.getPrototypeOf(value) === Object.prototype;

/** The options that are passed on to the server. */
function honoured(
  { tls, error, routes, websocket, idleTimeout, maxRequestBodySize, development }: ExportedOptions,
): Omit<ServedApp, "fetch"> {
  return {
    ...(isPlain(tls) && { tls }),
    ...(isPlain(routes) && { routes }),
    ...(isPlain(websocket) && { websocket }),
    ...(typeof error === "function" && { error }),
    ...(typeof idleTimeout === "number" && { idleTimeout }),
    ...(typeof maxRequestBodySize === "number" && { maxRequestBodySize }),
    ...(typeof development === "boolean" && { development }),
  };
}

/** Starts the runtime's own server, or one of node's. Returns the port. */
async function start(token: Token, app: ServedApp, where: ServedAt): Promise<number | undefined> {
  const { native, runtime } = registry.adapter;
  for (const name of ["routes", "websocket"] as const) {
    if (app[name] !== undefined && native?.serve.takesRoutes !== true) {
      throw new TypeError(
        `serve: only Bun serves the \`${name}\` that the module exports, not ${runtime}`,
      );
    }
  }
  if (native !== undefined) return native.serve.open(token.adopt, app, where);
  const [http, https, { toNodeHandler }] = await Promise.all([
    import("node:http"),
    import("node:https"),
    import("srvx/node"),
  ]);
  const listener = toNodeHandler(guarded(app)) as RequestListener;
  const server = app.tls === undefined
    ? http.createServer(listener)
    : https.createServer(app.tls as object, listener);
  await token.bind(server, where);
  const address = server.address();
  return typeof address === "object" ? address?.port : undefined;
}

/**
 * The handler, with an answer to each request, as the servers of Deno and Bun have it: srvx 1.0
 * leaves what a handler throws to Node, which ends the process.
 */
function guarded({ fetch, error: onError }: ServedApp): FetchApp["fetch"] {
  return async (request, ...more) => {
    try {
      return await (fetch as FetchApp["fetch"])(request, ...more);
    } catch (error) {
      return await answerTo(error, request, onError);
    }
  };
}

/** The answer to a request whose handler has thrown. */
async function answerTo(
  error: unknown,
  { signal }: Request,
  onError: ServedApp["error"],
): Promise<Response> {
  let last = error;
  try {
    const answer = typeof onError === "function" ? await onError(error) : undefined;
    if (answer !== undefined) return answer;
  } catch (own) {
    last = own;
  }
  // The client has left in the middle of its body.
  const hasLeft = signal.aborted && (last as { code?: unknown } | null)?.code === "ECONNRESET";
  if (!hasLeft) console.error(last);
  return new Response("Internal Server Error", { status: 500 });
}

function parsePort(value: number | string): number {
  const port = Number(value);
  if (!Number.isInteger(port) || port < 0 || port > 65_535 || String(value).trim() === "") {
    throw new TypeError(
      `serve: the port must be a whole number from 0 to 65535, not ${show(value)}`,
    );
  }
  return port;
}
