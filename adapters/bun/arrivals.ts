/**
 * Connections of HTTP/1 that come to a server which Bun serves by itself. It takes no connection;
 * but it accepts those that this process makes to it. Each of these asks once: then it is an idle
 * one, with the timeouts of such. What is to be served is put below them, and only then the
 * application hears of a connection.
 *
 * They come over the unix socket that is below the server while its own is taken out, for this or
 * for another reason. Native servers get theirs by TCP (src/linux/own_connections.ts): their
 * handlers know a request by the address of its client, which a unix socket has not.
 */
import type { LiveSocket } from "../../src/core/live.ts";
import type { Libc } from "../../src/core/socket_adapter.ts";
import type { BindableServer } from "../../src/core/token.ts";
import { AF_UNIX, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_STREAM } from "../../src/linux/constants.ts";
import { getAddress } from "../../src/linux/socket_options.ts";
import { readSocket, scanSockets } from "../../src/linux/socket_scan.ts";
import type { Takeable } from "../../src/linux/taken_listener.ts";
import { replaceFile } from "../../src/linux/transplant.ts";
import { isNative } from "./http1.ts";

/** How many are made at once. */
const MOST = 500;
/** How long the server may take to answer them, in milliseconds. It takes a few. */
const TIMEOUT_MS = 2_000;

const REQUEST = new TextEncoder().encode("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");

/**
 * Serves connections. Returns the descriptors of those that cannot be served in this way; the
 * others are closed.
 */
export async function serveOn(
  libc: Libc,
  server: BindableServer,
  listener: Takeable,
  fds: readonly number[],
): Promise<number[]> {
  const left: number[] = [];
  for (let i = 0; i < fds.length; i += MOST) {
    left.push(...await serveSome(libc, server, listener, fds.slice(i, i + MOST)));
  }
  return left;
}

async function serveSome(
  libc: Libc,
  server: BindableServer,
  listener: Takeable,
  fds: number[],
): Promise<number[]> {
  if (listener.take() !== undefined) return fds;
  // What comes for everybody else waits in its socket meanwhile.
  const clients = connectTo(libc, listener.fd, fds.length);
  const accepted = await answer(server, clients.length).finally(() => listener.giveBack());
  const scan = scanSockets(libc);
  const names = new Set(clients.map((fd) => readSocket(libc, fd)?.local()?.key));
  for (const socket of accepted === undefined ? [] : scan.sockets.values()) {
    if (
      socket.kind !== "connection" || socket.localPort !== undefined ||
      !names.has(socket.peer()?.key)
    ) continue;
    const fd = fds.at(-1);
    if (fd === undefined || replaceFile(libc, scan, socket.fd, fd) !== undefined) continue;
    libc.close(fd);
    fds.pop();
  }
  for (const fd of clients) libc.close(fd);
  for (const socket of accepted ?? []) server.emit("connection", socket);
  return fds;
}

/** Connects to a listening unix socket, and asks. Returns the descriptors. */
function connectTo(libc: Libc, listener: number, count: number): number[] {
  const address = getAddress(libc, "getsockname", listener);
  const family = new Uint8Array(new Uint16Array([AF_UNIX]).buffer);
  libc.listen(listener, count); // The length of its queue.
  const fds: number[] = [];
  for (let i = 0; address !== undefined && i < count; i++) {
    const fd = libc.socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) break;
    // The kernel names it (unix(7), autobind): that is how its other end is known.
    const isConnected = libc.bind(fd, family, family.length) === 0 &&
      libc.connect(fd, address, address.length) === 0;
    if (isConnected && libc.write(fd, REQUEST, REQUEST.length) === REQUEST.length) {
      fds.push(fd);
      continue;
    }
    libc.close(fd);
    break;
  }
  return fds;
}

/** A response, as far as it is used here. */
interface Response {
  once(event: "close", listener: () => void): unknown;
  end(): unknown;
}

/** Members of a server that make it refuse connections. */
interface Limits {
  maxConnections?: unknown;
  blockList?: unknown;
}

/**
 * Answers the first requests of all that connects, of which the application hears nothing. Resolves
 * with the sockets; with `undefined` where that takes too long, and they are closed.
 */
async function answer(
  server: BindableServer & Limits,
  count: number,
): Promise<LiveSocket[] | undefined> {
  const sockets = new Set<LiveSocket>();
  const done = Promise.withResolvers<boolean>();
  const { emit, maxConnections, blockList } = server;
  let answered = 0;
  let isOver = count === 0;
  if (isOver) return [];

  function intercept(event: string, ...args: unknown[]): boolean {
    const [first, second] = args;
    if (!isOver && event === "connection" && isNative(first as LiveSocket)) {
      sockets.add(first as LiveSocket);
      return true;
    }
    const socket = event === "request"
      ? (first as { socket: LiveSocket & { _requestCount?: number } }).socket
      : undefined;
    if (isOver || socket === undefined || !sockets.has(socket)) {
      return emit.call(server, event, ...args);
    }
    const response = second as Response;
    response.once("close", () => {
      socket._requestCount = 0;
      if (++answered === count) done.resolve(true);
    });
    response.end();
    return true;
  }

  const timer = setTimeout(() => done.resolve(false), TIMEOUT_MS);
  server.emit = intercept;
  // They are those of connections that have been accepted before.
  server.maxConnections = server.blockList = undefined;
  const isComplete = await done.promise;
  isOver = true;
  clearTimeout(timer);
  if (server.emit === intercept) server.emit = emit;
  Object.assign(server, { maxConnections, blockList });
  if (isComplete) return [...sockets];
  for (const socket of sockets) socket.destroy();
  return undefined;
}
