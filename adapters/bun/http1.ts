/**
 * The connections of node:http that Bun serves by itself: what can be seen of them, and how idle
 * ones are taken out of their servers. What Bun shows of one is a socket without a handle, and
 * below it, under a symbol, an object that knows the parser.
 */
import type { LiveSocket } from "../../src/core/live.ts";
import type { Http1View, IdleTaker, Libc } from "../../src/core/socket_adapter.ts";
import { takeClosed } from "../../src/linux/idle_http.ts";
import { setReading } from "../../src/linux/polling.ts";
import { type OpenSocket, scanSockets } from "../../src/linux/socket_scan.ts";

/** The object below a socket, and what is used of it. */
interface NativeHandle {
  /**
   * Closes the connection if it waits for a request, and returns whether it did. One whose answer
   * is still to be sent counts as such.
   */
  closeIfIdle(): boolean;
  /** That of the last request, or of the one that is being read. */
  readonly response?: { readonly bufferedAmount?: number } | null;
}

/**
 * What a socket says of the request that it serves; private members of Node's that Bun has as well.
 */
interface RequestState extends LiveSocket {
  readonly _httpMessage?: unknown;
  readonly parser?: { readonly incoming?: { readonly complete: boolean } | null } | null;
}

let symbol: symbol | undefined;

const memberOf = (socket: LiveSocket, symbol: symbol) =>
  (socket as unknown as Record<symbol, Partial<NativeHandle> | null | undefined>)[symbol];

/** The native object below a socket; `undefined` for a socket of node:net. */
function nativeHandle(socket: LiveSocket): NativeHandle | undefined {
  symbol ??= Object.getOwnPropertySymbols(socket).find((symbol) =>
    symbol.description === "handle" && typeof memberOf(socket, symbol)?.closeIfIdle === "function"
  );
  return symbol && (memberOf(socket, symbol) as NativeHandle | null | undefined) || undefined;
}

/** Whether a socket is one of a server that Bun serves by itself. */
export const isNative = (socket: LiveSocket): boolean => nativeHandle(socket) !== undefined;

/**
 * Whether no request is being answered, or its body read. Only `closeIfIdle` knows of one whose
 * head has come in part.
 */
function seemsIdle(socket: LiveSocket): boolean {
  const { _httpMessage, parser } = socket as RequestState;
  return !_httpMessage && parser?.incoming?.complete !== false &&
    !nativeHandle(socket)?.response?.bufferedAmount;
}

/**
 * Closes a connection if it waits for a request and nothing is left to be sent. Returns whether it
 * did.
 */
export function closeIfIdle(socket: LiveSocket): boolean {
  return seemsIdle(socket) && nativeHandle(socket)?.closeIfIdle() === true;
}

const view: Http1View = {
  isIdle: seemsIdle,
  // There is a new one for each request.
  mark: (socket) => nativeHandle(socket)?.response ?? undefined,
  end: closeIfIdle,
};

/** What can be seen of a connection that Bun serves by itself. */
export const bunHttp1 = (socket: LiveSocket): Http1View | undefined =>
  isNative(socket) ? view : undefined;

/** What a socket of node:net says of its ends. */
interface Ends {
  readonly localPort?: number;
  readonly remoteAddress?: string;
  readonly remotePort?: number;
}

/** The address of a client, the same in all notations. */
function canonical(host: string): string {
  return host.includes(":") ? new URL(`http://[${host.split("%")[0]}]`).hostname : host;
}

function keyOf({ localPort, remoteAddress, remotePort }: Ends): string | undefined {
  return remoteAddress === undefined
    ? undefined
    : `${localPort} ${canonical(remoteAddress)} ${remotePort}`;
}

function endsOf(socket: OpenSocket): Ends | undefined {
  const { localPort, peerPort } = socket;
  const host = socket.peer()?.host;
  return host === undefined
    ? undefined
    : { localPort, remoteAddress: host, remotePort: peerPort } as Ends;
}

/** Looks at the descriptors of this process. */
export function lookForIdle(libc: Libc): IdleTaker {
  const scan = scanSockets(libc);
  /**
   * The file of a unix socket does not say who its client is. Whether all of them are known, and
   * none was accepted since.
   */
  let isNow = true;
  queueMicrotask(() => isNow = false);
  const connections = [...scan.sockets.values()].filter(({ kind }) => kind === "connection");
  /** Those of TCP, by both ports; looking at an address takes longer. */
  const byPorts = Map.groupBy(
    connections.filter(({ localPort }) => localPort !== undefined),
    ({ localPort, peerPort }) => `${localPort} ${peerPort}`,
  );
  /** Those of unix sockets that have a name: they were accepted. A pair has none. */
  const ofPaths = connections.filter((socket) =>
    socket.localPort === undefined && socket.local()?.name !== ""
  );
  const stopped = new Map<LiveSocket, number>();

  /** The descriptor of a connection; `undefined` where that is not certain. */
  function find(socket: LiveSocket & Ends): number | undefined {
    const key = keyOf(socket);
    const found = byPorts.get(`${socket.localPort} ${socket.remotePort}`)?.filter((open) =>
      keyOf(endsOf(open) ?? {}) === key
    );
    return found?.length === 1 ? found[0]?.fd : undefined;
  }

  function start(socket: LiveSocket): void {
    const fd = stopped.get(socket);
    if (fd !== undefined && !socket.destroyed) setReading(libc, scan, fd, true);
    stopped.delete(socket);
  }

  return {
    start,
    stop(socket) {
      const fd = isNative(socket) ? find(socket) : undefined;
      if (fd !== undefined && setReading(libc, scan, fd, false)) stopped.set(socket, fd);
    },
    take(sockets) {
      const native = sockets.filter(isNative) as (LiveSocket & Ends)[];
      const withPort = new Map<number, LiveSocket>();
      for (const socket of native) {
        const fd = seemsIdle(socket) ? find(socket) : undefined;
        if (fd !== undefined) withPort.set(fd, socket);
      }
      const withPath = isNow
        ? native.filter((socket) => socket.remotePort === undefined && seemsIdle(socket))
        : [];
      const fds = [...withPort.keys(), ...withPath.length > 0 ? ofPaths.map(({ fd }) => fd) : []];
      const taken = takeClosed(
        libc,
        fds,
        () => [...withPort.values(), ...withPath].forEach(closeIfIdle),
      );
      sockets.forEach(start);
      return taken;
    },
    close: (fd) => void libc.close(fd),
  };
}
