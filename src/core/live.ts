/** How an application serves connections that move to the next generation. */
export interface LiveHandlers<Session, Socket> {
  /**
   * Has a connection nothing to do with the others, nor with the state that `saveState` returns?
   * Then the old process serves it until it moves, and each client waits for milliseconds only.
   * Default: false. All are released before the state is handed over, and accepted at once, before
   * any is read from: what one client sends to all others reaches those that arrive last. Ten
   * thousand wait for about a second then.
   */
  readonly independent?: boolean;
  /**
   * Serves a connection, in any generation.
   *
   * @param session What `release` returned in the generation before; `undefined` for a new
   * connection.
   */
  accept(socket: Socket, session: Session | undefined): void;
  /**
   * Lets go of a connection: the application does not use the socket any more. Nothing is read from
   * it at this moment, and all that was written has left this process. Listeners that `accept` has
   * set are removed.
   *
   * @param isLate Whether those with which it shares its state have moved before: what one of them
   * sends to all no longer reaches it. Where its client must miss nothing, close it.
   * @returns What the next generation needs to go on: a JSON value or bytes. `undefined`: not now.
   * Then the connection is served as before and asked for again; one that is still refused at the
   * end of the probation is drained.
   */
  release(socket: Socket, isLate: boolean): Session | undefined;
}

/** Connections of one kind that move to the next generation. */
export interface Live<Socket> {
  /** Takes a new connection: the listener for `net.createServer()`. */
  readonly accept: (socket: Socket) => void;
  /**
   * Takes a connection that the application uses already, for example after an upgrade of HTTP. The
   * handler `accept` is called for it at once, in this process.
   */
  readonly add: (socket: Socket) => void;
}

/** A connection of node:net, as far as it is used here. */
export interface LiveSocket {
  /** Whether it is closed. */
  readonly destroyed: boolean;
  /** Whether the client has ended its side. */
  readonly readableEnded: boolean;
  /** Set by `setEncoding`. */
  readonly readableEncoding: string | null;
  /** The bytes that were read and not consumed. */
  readonly readableLength: number;
  /** The bytes that were written and have not left this process. */
  readonly writableLength: number;
  /** Whether this side has ended. */
  readonly writableEnded: boolean;
  /** Whether it is a connection of node:tls. */
  readonly encrypted?: boolean;
  /** The events that have listeners. */
  eventNames(): (string | symbol)[];
  /** The listeners of an event, and what is around those that are called once. */
  rawListeners(event: string | symbol): SocketListener[];
  /** Subscribes to an event. */
  on(event: string, listener: SocketListener): unknown;
  /** Subscribes to the next event. */
  once(event: string, listener: SocketListener): unknown;
  /** Ends a subscription. */
  removeListener(event: string | symbol, listener: SocketListener): unknown;
  /** Takes what was read and not consumed. */
  read(): Uint8Array | null;
  /** Puts bytes in front of those that are to be read. */
  unshift(bytes: Uint8Array): void;
  /** Closes it in this process. */
  destroy(): unknown;
}

/** A listener to an event of a socket. */
// The arguments differ from event to event.
// deno-lint-ignore no-explicit-any
export type SocketListener = (...args: any[]) => void;
