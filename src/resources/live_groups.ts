/** The connections that move to the next generation, while no reload is under way. */
import { show } from "../core/check.ts";
import type { Live, LiveHandlers, LiveSocket } from "../core/live.ts";

/** Connections of one kind. */
export interface LiveGroup {
  readonly name: string;
  /** Whether each connection may move by itself. */
  readonly isIndependent: boolean;
  /** Those that the application serves. */
  readonly sockets: Set<LiveSocket>;
  /**
   * Gets new connections instead of the application, while a reload moves the others. Some are in
   * use already.
   */
  divert: ((socket: LiveSocket, isUsed: boolean) => void) | undefined;
  /** Gives a connection to the application. */
  serve(socket: LiveSocket, session: unknown): void;
  /** Asks the application to let go of a connection. `undefined`: not now. */
  release(socket: LiveSocket, isLate: boolean): unknown;
}

/** The groups of this process, by name. */
export type LiveGroups = Map<string, LiveGroup>;

/** Adds a group. */
export function addLiveGroup(
  groups: LiveGroups,
  name: string,
  handlers: LiveHandlers<unknown, unknown>,
): Live<LiveSocket> {
  if (typeof name !== "string" || name === "") {
    throw new TypeError(`live: the name must be a string, not ${show(name)}`);
  }
  if (groups.has(name)) {
    throw new TypeError(`live: ${name} is taken; each kind of connection has a name of its own`);
  }
  for (const method of ["accept", "release"] as const) {
    if (typeof handlers?.[method] !== "function") {
      throw new TypeError(`live: ${method} must be a function, not ${show(handlers?.[method])}`);
    }
  }
  /** The listeners that a connection had before the application got it. */
  const before = new WeakMap<LiveSocket, Map<string | symbol, Set<unknown>>>();

  const group: LiveGroup = {
    name,
    isIndependent: handlers.independent === true,
    sockets: new Set(),
    divert: undefined,
    serve(socket, session) {
      group.sockets.add(socket);
      socket.once("close", () => group.sockets.delete(socket));
      before.set(
        socket,
        new Map(socket.eventNames().map((event) => [event, new Set(socket.rawListeners(event))])),
      );
      handlers.accept(socket, session);
    },
    release(socket, isLate) {
      const session = handlers.release(socket, isLate);
      if (session === undefined) return undefined;
      group.sockets.delete(socket);
      const own = before.get(socket);
      for (const event of socket.eventNames()) {
        for (const listener of socket.rawListeners(event)) {
          if (!own?.get(event)?.has(listener)) socket.removeListener(event, listener);
        }
      }
      return session;
    },
  };
  groups.set(name, group);
  const take = (isUsed: boolean) => (socket: LiveSocket) => {
    if (group.divert !== undefined) group.divert(socket, isUsed);
    else group.serve(socket, undefined);
  };
  return { accept: take(false), add: take(true) };
}
