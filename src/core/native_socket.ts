/** Connections that a runtime serves by itself, as the handover of live connections sees them. */
import type { LiveSocket } from "./live.ts";
import type { FetchHandler } from "./token.ts";

/**
 * How a connection begins with the server of this process: with a handshake of its own, of which
 * the client hears nothing.
 */
export interface Entry {
  /** The headers of the handshake. */
  readonly headers: Readonly<Record<string, string>>;
  /** Answers the handshake. */
  readonly upgrade: FetchHandler;
  /** Resolves when the runtime has opened it. */
  readonly opened: Promise<unknown>;
  /** The connection of the client is there now. What comes on it has not been read yet. */
  arrived(fd: number): void;
  /** That was not possible: the connection is closed. */
  failed(): void;
}

/** Such a connection. */
export interface NativeSocket extends LiveSocket {
  /** Its descriptor: the runtime's, or, while it is between two servers, one that nobody polls. */
  fd: number;
  /** What serves it; `undefined` while it is between two servers. */
  served: Served | undefined;
  /** The key of the server that has it. Set before it is released. */
  server?: string | undefined;
  /** Serves it by a server of this process. Only of one that is between two servers. */
  goOn?(server: string, entry: Entry): Promise<unknown>;
  /** Resolves when it is served, or closed. Set by the side of the application. */
  arrival?: Promise<unknown> | undefined;
  /** Tells those that wait for its end. */
  emitClose(): void;
}

/** What serves a connection. */
export interface Served {
  readonly bufferedAmount: number;
  /**
   * Whether it could move now: what this process has read is the application's, and ends with a
   * message.
   */
  isAtRest(): boolean;
  /** A number that changes as long as this process works on what it has read or written. */
  readonly progress: number;
  terminate(): void;
}

/** Whether a connection is served by the runtime itself. */
export function isNative(socket: LiveSocket): socket is NativeSocket {
  return "emitClose" in socket;
}

/** A connection that is served. */
export function createNativeSocket(fd: number, served: Served): NativeSocket {
  return create(fd, served);
}

/**
 * A connection that is between two servers.
 *
 * @param discard Closes its descriptor.
 */
export function createPassingSocket(
  fd: number,
  goOn: NonNullable<NativeSocket["goOn"]>,
  discard: () => void,
): NativeSocket {
  return create(fd, undefined, goOn, discard);
}

function create(
  fd: number,
  served: Served | undefined,
  goOn?: NativeSocket["goOn"],
  discard = () => {},
): NativeSocket {
  const listeners = new Set<() => void>();
  let isGone = false;
  const subscribe = (event: string, listener: () => void) =>
    void (event === "close" && listeners.add(listener));
  const socket: NativeSocket = {
    fd,
    served,
    ...(goOn && { goOn }),
    get destroyed() {
      return isGone;
    },
    readableEnded: false,
    readableEncoding: null,
    readableLength: 0,
    get writableLength() {
      return socket.served?.bufferedAmount ?? 0;
    },
    writableEnded: false,
    eventNames: () => [],
    rawListeners: () => [],
    on: subscribe,
    once: subscribe,
    removeListener: (_event, listener) => void listeners.delete(listener),
    read: () => null,
    unshift() {
      throw new Error("what was read of a connection that the runtime serves cannot be put back");
    },
    destroy() {
      if (socket.served !== undefined) socket.served.terminate();
      else if (!isGone) discard();
      isGone = true;
    },
    emitClose() {
      isGone = true;
      for (const listener of [...listeners]) listener();
      listeners.clear();
    },
  };
  return socket;
}
