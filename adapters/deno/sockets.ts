/** Listening sockets on Deno. */
import type { Listener, ListenSource } from "../../src/core/socket_adapter.ts";
import type { BindableServer } from "../../src/core/token.ts";
import type { DenoNamespace } from "./namespace.ts";
import {
  F_GETFD,
  F_GETFL,
  F_SETFD,
  F_SETFL,
  FD_CLOEXEC,
  O_NONBLOCK,
} from "../../src/linux/constants.ts";
import { openFirst, retainDescriptor } from "../shared/libc.ts";
import { denoLibc } from "./libc.ts";
import { listenDirectly } from "../shared/node_sockets.ts";
import type { LiveSocket } from "../../src/core/live.ts";

/**
 * Makes a server of the application listen.
 *
 * @param mayCall Whether the C library may be called.
 */
export async function listenOnDeno(
  deno: DenoNamespace,
  server: BindableServer,
  source: ListenSource,
  mayCall: boolean,
): Promise<Listener> {
  delete (server as { listening?: boolean }).listening; // See `close` below.
  const listener = await listenDirectly(server, source, () => {
    // Deno 2.9 makes the unix sockets on which node:net listens without close-on-exec, which all
    // its other sockets have. A process that the program starts would hold the socket for as long
    // as it lives: the path counts as served then, and clients wait there for ever.
    // Only the handle of a unix socket has one.
    const { fd } = (server as { _handle?: { fd?: number } | null })._handle ?? {};
    if (mayCall && "options" in source && fd !== undefined && fd >= 0) closeOnExec(deno, fd);
  });
  return {
    ...listener,
    rawHandle: undefined,
    // A socket that this process was started with cannot be opened again: it is kept for the time
    // in which another process accepts from it.
    ...(mayCall && "fd" in source &&
      { retain: () => Promise.resolve(retainDescriptor(denoLibc(deno, true), source.fd)) }),
    get isOpen() {
      return listener.isOpen;
    },
    close() {
      listener.close();
      // Deno 2.9 destroys a connection after an answer that promised to keep it, when the server
      // listens no more (resOnFinish in ext/node/polyfills/_http_server.ts): the client's next
      // request is on its way by then.
      Object.defineProperty(server, "listening", { value: true, configurable: true });
    },
  };
}

/** Adds flags to those of a descriptor; fcntl(2). */
function addFlags(
  deno: DenoNamespace,
  fds: readonly number[],
  get: number,
  set: number,
  added: number,
): void {
  if (fds.length === 0) return; // Opening the library takes its time.
  const library = openFirst((name) =>
    deno.dlopen(name, { fcntl: { parameters: ["i32", "i32", "i32"], result: "i32" } })
  );
  const { fcntl } = (library?.symbols ?? {}) as {
    fcntl?: (fd: number, command: number, argument: number) => number;
  };
  for (const fd of fds) {
    const flags = fcntl?.(fd, get, 0) ?? -1;
    if (flags >= 0) fcntl?.(fd, set, flags | added);
  }
}

/**
 * Lets accept(2) on a socket return when another process was faster. systemd's sockets block, and
 * Deno 2.9 does not change that; and Deno makes the sockets block that it passes to a child
 * process, which are the very same.
 */
export function setNonBlocking(deno: DenoNamespace, fds: readonly number[]): void {
  addFlags(deno, fds, F_GETFL, F_SETFL, O_NONBLOCK);
}

/** Keeps a descriptor from the processes that this one starts. */
export function closeOnExec(deno: DenoNamespace, fd: number): void {
  addFlags(deno, [fd], F_GETFD, F_SETFD, FD_CLOEXEC);
}

/** Whether a server accepts connections on a unix socket. */
export async function isServedOnDeno(deno: DenoNamespace, path: string): Promise<boolean> {
  try {
    (await deno.connect({ transport: "unix", path })).close();
    return true;
  } catch {
    return false;
  }
}

/**
 * Ends the time that a connection has for its first request; `ConnectionsList` in
 * ext/node/polyfills/_http_server.ts of Deno 2.9.
 */
export function markIdleOnDeno(server: BindableServer, socket: LiveSocket): void {
  const symbol = Object.getOwnPropertySymbols(server).find(({ description }) =>
    description === "http.server.connections"
  );
  const list =
    (server as unknown as Record<symbol, { popActive?(socket: LiveSocket): void } | undefined>)[
      symbol ?? Symbol()
    ];
  list?.popActive?.(socket);
}
