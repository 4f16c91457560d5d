/**
 * Serves a fetch handler, with reloads: the function behind `reload-self serve`. Deno and Bun use their own servers, Node uses
 * [srvx](https://srvx.h3.dev).
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
import { checkOptions, show } from "./core/check.ts";
import type { SocketAdapter } from "./core/socket_adapter.ts";
import { listen, type ListenOptions, type Token } from "./mod.ts";

/** An object with a fetch handler: a module with `export default { fetch }`, an app of Hono, H3 or Elysia. */
export interface FetchApp {
  /** Answers a request. The other arguments differ from runtime to runtime. */
  // deno-lint-ignore no-explicit-any
  fetch(request: Request, ...more: any[]): Response | Promise<Response>;
}

/** The options of `serve()`. */
export interface ServeOptions {
  /** The TCP port; 0 lets the kernel choose one, which all generations keep. Default: the variable PORT, or 8000. */
  port?: number;
  /** The address to listen on. Default: the variable HOST, or `0.0.0.0`, all addresses of IPv4. */
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

/** The variable with the port that the kernel chose for the first generation. */
const PORT_VARIABLE = "RELOAD_SELF_PORT";
const DEFAULT_PORT = 8000;

/**
 * Serves a fetch handler, and reloads like `listen()`. When the token is cancelled, the server is drained; the process ends when it has nothing
 * else to do.
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
export async function serve(app: FetchApp | FetchApp["fetch"], options: ServeOptions = {}): Promise<Served> {
  checkOptions("serve", options, ["port", "host", "unix", "listen"]);
  const handler = typeof app === "function" ? app : app?.fetch?.bind(app);
  if (typeof handler !== "function") throw new TypeError(`serve: there must be a fetch handler, not ${show(app)}`);
  const { service } = registry.adapter;
  const variable = (name: string) => service?.variable(name) || undefined;
  const host = options.host ?? variable("HOST") ?? "0.0.0.0";
  const asked = options.unix !== undefined ? 0 : parsePort(options.port ?? variable("PORT") ?? DEFAULT_PORT);
  const { env: given, ...rest } = options.listen ?? {};
  const env = { ...given };
  const token = listen({ ...rest, env });
  const { sockets } = await registry.adapter.complete();
  if (sockets === undefined) throw new TypeError("serve: there are no sockets to listen on here");

  if (options.unix !== undefined) {
    await start(sockets, token, handler, { path: options.unix });
    return { url: `unix:${options.unix}`, token };
  }
  const listening = await start(sockets, token, handler, { port: asked, host, before: variable(PORT_VARIABLE) });
  env[PORT_VARIABLE] = String(listening);
  const name = host === "0.0.0.0" || host === "::" ? "localhost" : host.includes(":") ? `[${host}]` : host;
  return { url: `http://${name}:${listening}/`, token };
}

/**
 * Starts the runtime's own server, or one of node's. Returns the port. For port 0 the runtime's own server gets the port of the generation
 * before; a bound server gets the socket itself.
 */
async function start(
  sockets: SocketAdapter,
  token: Token,
  handler: FetchApp["fetch"],
  where: { port: number; host: string; before: string | undefined } | { path: string },
): Promise<number | undefined> {
  if (sockets.serve !== undefined) {
    const native = "path" in where
      ? { path: await token.path(where.path) }
      : { port: where.port || (token.generation > 0 ? Number(where.before ?? 0) : 0), host: where.host };
    const server = await sockets.serve(token.fetch(handler), native);
    const answered = registry.listening?.answered ?? Promise.resolve(0);
    token.signal.addEventListener("abort", () => token.track(server.stop(answered), { name: "the server" }));
    if ("path" in where) await registry.listening?.placed(where.path);
    return server.port;
  }
  const [{ createServer }, { toNodeHandler }] = await Promise.all([import("node:http"), import("srvx/node")]);
  const server = createServer(toNodeHandler(handler) as RequestListener);
  await token.bind(server, "path" in where ? where : { port: where.port, host: where.host });
  const address = server.address();
  return typeof address === "object" ? address?.port : undefined;
}

function parsePort(value: number | string): number {
  const port = Number(value);
  if (!Number.isInteger(port) || port < 0 || port > 65_535 || String(value).trim() === "") {
    throw new TypeError(`serve: the port must be a whole number from 0 to 65535, not ${show(value)}`);
  }
  return port;
}
