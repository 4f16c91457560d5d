/** Servers of Deno.serve whose sockets are handed over. */
import { attempt } from "../../src/core/attempt.ts";
import { originalOf } from "../../src/core/marks.ts";
import type {
  AdoptedServer,
  NativeHost,
  NativeServe,
  Placement,
  ServeFunction,
} from "../../src/core/native.ts";
import type { FetchHandler } from "../../src/core/token.ts";
import { isServedAt } from "../../src/linux/listening.ts";
import { ifUsable } from "../shared/libc.ts";
import { choosePlace, createNativeActivation } from "../shared/native_activation.ts";
import { denoLibc } from "./libc.ts";
import { FollowedConnections, naming } from "./native_connections.ts";
import { isOfThread } from "./threads.ts";
import type { DenoNamespace } from "./namespace.ts";
import type { Permissions } from "./permissions.ts";
import type { FetchAdapter } from "../../src/core/adapter.ts";

/** The address of a server, as Deno has it. */
type Address = Readonly<Record<string, unknown>>;

/** The options of Deno.serve that are looked at. */
interface Options {
  readonly port?: unknown;
  readonly hostname?: unknown;
  readonly path?: unknown;
  readonly cid?: unknown;
  readonly handler?: FetchHandler;
  readonly signal?: AbortSignal;
  readonly cert?: unknown;
  readonly onListen?: (address: Address) => void;
}

/** A server of Deno.serve. */
interface Server {
  readonly addr: Address;
  /** It listens no more, and has ended all that it has begun. */
  readonly finished: Promise<void>;
  shutdown(): Promise<void>;
}

const DEFAULT_PORT = 8000;
/** How long clients may take to answer the close of their WebSockets. */
const CLOSE_TIMEOUT_MS = 5_000;
/**
 * How long requests are waited for that begin while a server is being stopped that is not replaced.
 */
const LATE_TIMEOUT_MS = 5_000;
const LATE_CHECK_MS = 5;

/** Tells the application where it listens, or prints it as Deno does. */
function tellAddress({ onListen, cert }: Options, address: Address): void {
  if (onListen !== undefined) return onListen(address);
  const { path, hostname, port } = address;
  const isTls = cert !== undefined;
  const host = String(hostname).includes(":") ? `[${hostname}]` : hostname;
  const url = (host: unknown) => `${isTls ? "https" : "http"}://${host}:${port}/`;
  const isAll = hostname === "0.0.0.0" || hostname === "::";
  const more = path === undefined && isAll ? ` (${url("localhost")})` : "";
  // It throws where the terminal that the program was started on is closed.
  attempt(() => console.error(`Listening on ${path ?? url(host)}${more}`));
}

/** What the address that a server has by itself does not tell. */
export function publicAddress(
  { activated }: Placement,
  path: string | undefined,
): Partial<Address> {
  return {
    ...(path !== undefined && { path }),
    ...(activated && { hostname: activated.hostname, port: activated.port }),
  };
}

/** Whether a server goes on. */
interface Life {
  /** As Deno has it. */
  readonly shutdown: () => Promise<void>;
  isOver: boolean;
}

/** Hears of the end of a server: the application may stop it, or abort its signal. */
function followLife(server: Server, onStop: () => void, onEnd: () => void): Life {
  const shutdown = server.shutdown.bind(server);
  const life = { shutdown, isOver: false };
  const stopped = () => {
    onStop();
    return shutdown();
  };
  Object.defineProperty(server, "shutdown", { configurable: true, value: stopped });
  const end = () => {
    life.isOver = true;
    onStop();
    onEnd();
  };
  server.finished.then(end, end);
  return life;
}

/** Has a server show this address: Deno remembers the one with which it began to listen. */
export function showAddress(server: object, address: Address): void {
  Object.defineProperty(server, "addr", { configurable: true, enumerable: true, value: address });
}

interface Opening {
  readonly deno: DenoNamespace;
  readonly reusePort: boolean;
  readonly isThread: boolean;
}

function open(
  serve: ServeFunction,
  host: NativeHost,
  options: Options,
  handler: FetchHandler,
  { deno, reusePort, isThread }: Opening,
): Server {
  const path = typeof options.path === "string" ? options.path : undefined;
  const { port, hostname } = options;
  const { placement, where } = choosePlace(host, { path, port, hostname }, "path", reusePort);
  const { inherited, activated, temporaryPath } = placement;
  const reported = (own: Address): Address =>
    inherited?.reported ?? { ...own, ...publicAddress(placement, path) };
  let isClosing = false;
  const cutter = new AbortController();
  // Nobody knows the connections of all threads.
  const areKnown = path === undefined && options.cert === undefined && !isOfThread(options);
  const followed = new FollowedConnections(deno, host.running);
  const server: Server = serve(
    {
      ...options,
      ...where,
      signal: AbortSignal.any([cutter.signal, ...(options.signal ? [options.signal] : [])]),
      onListen: (own: Address) => tellAddress(options, reported(own)),
    },
    host.wrap(
      followed.follow(path === undefined ? handler : naming(handler, path)),
      () => isClosing,
      () => followed.onUpgrade(),
    ),
  );
  const own = temporaryPath ?? Number(server.addr.port);
  const address = reported(server.addr);
  if (inherited !== undefined || activated !== undefined || path !== undefined) {
    showAddress(server, address);
  }
  const life = followLife(server, () => host.remove(adopted), () => followed.end());
  const adopted: AdoptedServer = {
    key: placement.key,
    path,
    own,
    reported: address,
    connections: areKnown ? followed : undefined,
    // The thread that reloads puts it below the servers of all.
    activated: isThread ? undefined : activated?.fd,
    setClosing: (closing) => void (isClosing = closing),
    async finish(idle, isReplaced) {
      followed.closeWebSockets(); // Deno does it when it is shut down, after all requests.
      await Promise.all([host.answered(), idle]);
      await lastEnded(host, followed, isReplaced ? Infinity : LATE_TIMEOUT_MS, cutter.signal);
      await life.shutdown();
    },
    cut() {
      const { size } = followed.openWebSockets;
      if (!life.isOver) cutter.abort(); // Deno 2.9 would end the process for it.
      return size;
    },
  };
  host.add(adopted);
  return server;
}

/**
 * Waits for the WebSockets, and for a moment at which no request is being answered, but for no
 * longer than `most` milliseconds. Deno 2.9 answers uploads with 500 that are under way when it is
 * shut down (denoland/deno#36809), and cuts WebSockets and streams of HTTP/2.
 */
async function lastEnded(
  { running }: NativeHost,
  followed: FollowedConnections,
  most: number,
  signal: AbortSignal,
): Promise<void> {
  await followed.webSocketsClosed(CLOSE_TIMEOUT_MS, signal);
  const end = performance.now() + most;
  while ([...running()].length > 0 && !signal.aborted && performance.now() < end) {
    await new Promise((resolve) => setTimeout(resolve, LATE_CHECK_MS));
  }
}

/**
 * Deno.serve, which the token can adopt.
 *
 * @param isShared Whether several instances listen at the same addresses.
 * @param activated How many sockets this process was started with.
 * @param isThread Whether another thread of this process reloads.
 */
export function denoServe(
  deno: DenoNamespace,
  isShared: boolean,
  activated: number,
  { mayCall, mayListen }: Pick<Permissions, "mayCall" | "mayListen">,
  isThread: boolean,
): NativeServe {
  // Deno has both `reusePort` and this with --unstable-net only.
  const isUnstable = "listenDatagram" in deno;
  return {
    name: "Deno.serve",
    takesRoutes: false,
    is: (serve) => originalOf(serve) === originalOf(deno.serve),
    isServed(path) {
      const libc = ifUsable(denoLibc(deno, mayCall()));
      return libc && isServedAt(libc, path);
    },
    activated: createNativeActivation(
      activated,
      () => denoLibc(deno, mayCall()),
      () => DEFAULT_PORT,
    ),
    open(adopt, { fetch, tls, error }, where) {
      const address = "path" in where ? where : { port: where.port, hostname: where.host };
      const quiet = { onListen() {}, ...(error !== undefined && { onError: error }) };
      const server = adopt(deno.serve as ServeFunction)(
        { ...address, ...quiet, ...(tls && { key: tls.key, cert: tls.cert }) },
        fetch,
      );
      return server.addr.port;
    },
    adopt: (given, host) => (first: Options | FetchHandler, second?: Options | FetchHandler) => {
      const serve = originalOf(given);
      const [options, handler] = typeof first === "function"
        ? [(second ?? {}) as Options, first]
        : [first, second ?? first?.handler];
      // Deno says what is wrong, and does by itself what is no address of a network: vsock.
      const isOther = options.cid !== undefined || (isThread && !isOfThread(options));
      if (typeof handler !== "function" || isOther) return serve(first, second);
      return open(serve, host, options, handler, {
        deno,
        isThread,
        reusePort: isShared ||
          (isUnstable && !(deno.build.os === "linux" && mayCall() && mayListen())),
      });
    },
  };
}

/** The state of a response, behind a symbol; `InnerBody` in ext/fetch/22_body.js of Deno 2.9. */
interface Inner {
  readonly body?:
    | { readonly streamOrStatic?: { getReader?: unknown }; readonly source?: unknown }
    | null;
}

/** Of this name, one for all responses. */
let symbol: symbol | undefined;

/** Asking for `body` would turn any body into a stream, and cost Deno.serve its fast path. */
export const denoFetch: FetchAdapter = {
  hasStream(response) {
    symbol ??=
      Object.getOwnPropertySymbols(response).find(({ description }) =>
        description === "response"
      ) ?? Symbol();
    const body = (response as unknown as Record<symbol, Inner | undefined>)[symbol]?.body;
    // A blob has a stream too, and a source; it has an end. A text has a source, and is the usual
    // answer: it is asked for first.
    return body?.source === null && typeof body.streamOrStatic?.getReader === "function";
  },
};
