/**
 * Servers of node's kind on Bun, on Linux. They listen by themselves, as without this library,
 * because a net.Server in front of one of node:http serves 0.6 of its requests. None takes a socket
 * over; but another one can be put below that on which it listens (src/linux/transplant.ts).
 */
import { forgetOpened, isOpened } from "../../src/core/marks.ts";
import type * as HttpModule from "node:http";
import type * as NetModule from "node:net";
import type { Server } from "node:net";
import type { Libc, Listener, ListenSource, SocketAddress } from "../../src/core/socket_adapter.ts";
import type { BindableServer } from "../../src/core/token.ts";
import { addressOfSocket } from "../../src/linux/addresses.ts";
import { findOpened, listeningFiles } from "../../src/linux/opened_listeners.ts";
import { scanSockets } from "../../src/linux/socket_scan.ts";
import { type Takeable, takeable } from "../../src/linux/taken_listener.ts";
import { duplicate, putBelow } from "../../src/linux/transplant.ts";
import { canTransplant } from "../../src/linux/transplant_check.ts";
import { ifUsable } from "../shared/libc.ts";
import { startListening } from "../shared/node_sockets.ts";
import { bunLibc } from "./libc.ts";
import { createFront, listenInFront, secrets } from "./sockets.ts";

/** As `address` of a server returns it. */
type Address = SocketAddress | string | null;

/**
 * The members of node:net's server that Bun's servers have. The handle is not there on those of
 * node:http and node:https.
 */
type OwnServer = BindableServer & Server & { _handle?: { fd?: number } | null };

/**
 * Only this machine reaches a server that has not got its socket yet, at a port that nobody is
 * told, for some microseconds.
 */
const PRIVATE = { port: 0, host: "127.0.0.1" };
/** What Bun's http.Server takes of the options of `listen`; it ignores the others. */
const OF_HTTP: readonly string[] = ["port", "host", "path"];

/** What finds the sockets of the servers that listen by themselves. */
const finders = new WeakMap<BindableServer, () => Takeable | undefined>();

/**
 * The listening socket of a server; `undefined` where the server does not listen by itself, or its
 * socket is not found.
 */
export function listenerOf(server: BindableServer): Takeable | undefined {
  return finders.get(server)?.();
}

const isOfNet = (server: BindableServer) => "_handle" in server;
const handleOf = (server: unknown) => (server as OwnServer)._handle?.fd;

/**
 * Whether idle connections of node:http can be told, and closed, where Bun serves them by itself:
 * `closeIfIdle` of what is below a socket. There is no connection yet of which that could be asked;
 * but the server uses it too. Bun 1.4 has it.
 */
function canMoveIdle(): boolean {
  const { process } = globalThis as unknown as {
    process: { getBuiltinModule(name: "node:http"): typeof HttpModule };
  };
  return String(process.getBuiltinModule("node:http").Server.prototype.closeIdleConnections)
    .includes("closeIfIdle");
}

/** Makes a server listen. */
export async function listenOnBun(server: BindableServer, source: ListenSource): Promise<Listener> {
  const own = server as OwnServer;
  if (isOpened(own)) {
    forgetOpened(own);
    return createListener(own, own.address() as Address);
  }
  if (!isOfNet(own) && !canMoveIdle()) return await listenInFront(server, source);
  if ("options" in source) {
    const { options } = source;
    if (
      isOfNet(own) ||
      Object.keys(options).every((name) => OF_HTTP.includes(name) || options[name] === undefined)
    ) {
      await startListening(own, options);
      return createListener(own, own.address() as Address);
    }
    if (options.path !== undefined) return await listenInFront(server, source);
  }
  const libc = ifUsable(bunLibc());
  if (libc === undefined || canTransplant(libc) !== undefined) {
    return await listenInFront(server, source);
  }
  return await listenOn(libc, own, await descriptorFor(libc, server, source));
}

/** A descriptor of the socket to listen on, which is the caller's. */
async function descriptorFor(
  libc: Libc,
  server: BindableServer,
  source: ListenSource,
): Promise<number> {
  if ("received" in source) return source.received;
  // A handle comes from a process of a version up to 0.6.
  const front = "fd" in source
    ? undefined
    : await createFront(server, "handle" in source ? source.handle as Server : source.options);
  const fd = duplicate(libc, "fd" in source ? source.fd : handleOf(front) ?? -1);
  front?.close();
  if (fd < 0) throw new Error("this process has no file descriptors left");
  return fd;
}

/** Makes a server listen on a socket. The descriptor is closed. */
async function listenOn(libc: Libc, server: OwnServer, fd: number): Promise<Listener> {
  const address = addressOfSocket(libc, fd) ?? null;
  let started: Promise<void> | undefined;
  const { listeners } = findOpened(libc, () => started = startListening(server, PRIVATE));
  const own = listeners.find(({ socket, polled }) =>
    socket.localPort !== undefined && polled.length === 1
  )?.polled[0];
  // Before anything is accepted: the event loop has not gone on.
  const refusal = own === undefined
    ? "its own socket is not found"
    : putBelow(libc, scanSockets(libc), own, fd);
  if (own === undefined) libc.close(fd);
  else overrideAddress(server, address);
  await started;
  if (own !== undefined && refusal === undefined) {
    return createListener(server, address, takeable(libc, own));
  }
  server.close();
  throw new Error(`the server cannot be given its socket: ${refusal}`);
}

/**
 * Most servers ask the kernel, which knows the socket that is there meanwhile; http.Server
 * remembers where it began to listen.
 */
function overrideAddress(server: OwnServer, address: Address): void {
  server.address = () => server.listening ? address : null;
}

/** Finds the socket of a server of node:http, which does not show it, by its address. */
function find(libc: Libc, address: Address): number | undefined {
  const isSame = (other: Address | undefined) =>
    typeof address === "object" && typeof other === "object"
      ? address?.port === other?.port && address?.address === other?.address
      : address === other;
  // How it is polled may not be visible: then it can still be passed on.
  const [fd, ...others] = listeningFiles(libc, scanSockets(libc)).flatMap((
    { polled, unpolled },
  ) => [...polled, ...unpolled])
    .filter((fd) => isSame(addressOfSocket(libc, fd)));
  return others.length > 0 ? undefined : fd;
}

function createListener(server: OwnServer, address: Address, socket?: Takeable): Listener {
  let front: Promise<Server> | undefined;
  let isClosed = false;
  const closeFront = () => void front?.then((front) => front.close(), () => {});

  function findOnce(): Takeable | undefined {
    const libc = socket === undefined ? ifUsable(bunLibc()) : undefined;
    if (libc === undefined) return socket;
    const fd = isOfNet(server) ? handleOf(server) : find(libc, address);
    return fd === undefined || fd < 0 ? undefined : socket = takeable(libc, fd);
  }
  finders.set(server, findOnce);

  return {
    /**
     * A process of a version up to 0.6 takes a net.Server. It accepts here as well, from the moment
     * that it is made.
     */
    get handle() {
      const libc = ifUsable(bunLibc());
      const fd = findOnce()?.fd;
      if (fd === undefined || libc === undefined) return undefined;
      return front ??= createFront(server, { fd: duplicate(libc, fd) });
    },
    takeable: {
      descriptor: () => findOnce()?.fd,
      pause() {
        closeFront();
        const socket = findOnce();
        if (socket === undefined || socket.take() !== undefined) return false;
        overrideAddress(server, address);
        return true;
      },
      resume() {
        const refusal = socket?.giveBack();
        if (refusal !== undefined) throw new Error(refusal);
      },
    },
    get isOpen() {
      return !isClosed && server.listening;
    },
    address: typeof address === "object" && address !== null ? address : undefined,
    close() {
      if (isClosed) return;
      isClosed = true;
      closeFront();
      socket?.close();
      stopAccepting(server);
    },
  };
}

/** Stops listening. The method of http.Server would close connections that are, or seem, idle. */
function stopAccepting(server: OwnServer): void {
  if (!isOfNet(server)) return void secrets(server)["::bunternal::"]?.stop();
  const { process } = globalThis as unknown as {
    process: { getBuiltinModule(name: "node:net"): typeof NetModule };
  };
  process.getBuiltinModule("node:net").Server.prototype.close.call(server);
}
