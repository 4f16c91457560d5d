import { describeError } from "../core/describe_error.ts";
import { ReloadError } from "../core/error.ts";
import { pause } from "../core/pause.ts";
import type { SocketAdapter, SocketAddress } from "../core/socket_adapter.ts";
import type { BindableServer } from "../core/token.ts";
import type { ProgramContext } from "../reload/context.ts";
import type { Handover, IncomingHandover, IncomingReload, OutgoingHandover, OutgoingReload } from "../reload/handover.ts";
import type { HandoverData } from "../protocol/reload.ts";
import { findActivated } from "./activated.ts";
import { type BoundRequest, type BoundServer, createBoundServer, keyOf, parseAddress } from "./bound_server.ts";
import { holdLost, openReturned } from "./returned_socket.ts";
import { receiveHeld } from "./receive_held.ts";
import { explainMissing } from "./missing.ts";

/** The handover, and the way to bind a server. */
export interface ListeningSockets {
  readonly handover: Handover;
  /** Lets a server listen, on the predecessor's socket where it has one for the same address. */
  bind(server: BindableServer, request: BoundRequest): Promise<void>;
  /** Was this process started with a socket at this path? */
  isActivated(path: string): boolean;
  /** Stops listening everywhere. */
  close(): void;
  /** Does a server listen on this port? */
  has(port: number): boolean;
  /** The servers, by keys that are the same in every generation. */
  servers(): readonly (readonly [key: string, server: BindableServer])[];
}

/**
 * The handover of servers of node's kind. Both processes have the same socket in the end, with one queue of connections, so that none can
 * get lost between them. A new process accepts nothing before it is in charge: when it fails, no connection fails with it.
 */
export function createListeningSockets(adapter: SocketAdapter, { clock, hasPredecessor }: ProgramContext): ListeningSockets {
  const servers = new Map<string, BoundServer>();
  /** Resolves when it is known what the predecessor offers. */
  const known = Promise.withResolvers<void>();
  if (!hasPredecessor) known.resolve();
  /** What the predecessor offers and has not handed over: the addresses, by the keys of the requests. */
  let offered: ReadonlyMap<string, SocketAddress | undefined> = new Map();
  let claim = (_: string) => {};
  /** A server that waits does not listen yet, and only a server that listens keeps its process alive. */
  let isWaiting = hasPredecessor;
  let release: (() => void) | undefined;

  const open = () => [...servers].filter(([, { isOpen }]) => isOpen);

  function close(): void {
    for (const server of servers.values()) server.close();
  }

  function outgoing({ link, signal }: OutgoingReload): OutgoingHandover {
    /** The servers that the new process has, by their keys. */
    const claimed = new Set<string>();
    /** Those whose socket it has already, without accepting from it. */
    const held = new Set<string>();
    /** Those that this process has closed, so that the new process alone accepts. */
    const suspended = new Set<string>();
    const hasRead = Promise.withResolvers<void>();
    let answer = Promise.withResolvers<unknown>();

    /** Resolves when the new process has answered, with the socket that it sent back. */
    async function ask(data: HandoverData, handle?: unknown): Promise<unknown> {
      answer = Promise.withResolvers();
      answer.promise.catch(() => {}); // Rejects perhaps before it is awaited.
      await link.send(data, handle);
      return await answer.promise;
    }

    /**
     * Gives the new process a socket before it may accept from it: should this process be killed, the socket stays open.
     *
     * @param takesDescriptors Whether the new process can receive descriptors: one of a version up to 0.6 does not.
     */
    function lend(key: string, holdsHandles: boolean, takesDescriptors: boolean): void {
      const { listener, fd } = servers.get(key) as BoundServer;
      if (fd !== undefined || listener === undefined) return;
      const own = takesDescriptors ? listener.takeable?.descriptor() : undefined;
      const number = own === undefined ? undefined : link.descriptors?.send([own]);
      if (number !== undefined) {
        held.add(key);
        link.send({ key, hold: true, number }).catch(() => {});
      } else if (holdsHandles && listener.rawHandle !== undefined) {
        link.send({ key, hold: true }, listener.rawHandle).catch(() => {});
      }
    }

    async function saveState(key: string): Promise<void> {
      const server = servers.get(key) as BoundServer;
      const { listener, fd } = server;
      if (fd !== undefined || link.sendsHandles) {
        const isSent = fd === undefined && !held.has(key);
        const back = await ask({ key }, isSent ? listener?.rawHandle ?? await listener?.handle : undefined);
        server.hold(adapter.held?.(back));
        if (signal.aborted) server.release(); // The answer came when all was rolled back.
      } else {
        // No socket can be sent over this channel. The new process opens one as soon as this one is closed.
        suspended.add(key);
        server.close();
        await ask({ key, isFree: true });
      }
    }

    /** Gets back a socket that only the new process has, which has failed its check and still accepts. */
    async function takeBack(key: string): Promise<void> {
      const server = servers.get(key) as BoundServer;
      if (server.isHeld || server.fd !== undefined) return;
      if (await openReturned(server, ask({ key, back: true }), clock)) return void suspended.delete(key);
      link.send({ key, close: true }).catch(() => {});
      holdLost(adapter, server);
    }

    return {
      sendsSockets: () => [...servers.values()].some(({ fd, isFree }) => fd === undefined && !isFree),
      sendsDescriptors: () => open().some(([, { fd, listener }]) => fd === undefined && listener?.takeable !== undefined),
      async offer() {
        const sockets = open().map(([key, { address }]) => ({ key, address }));
        const keys = new Set(sockets.map(({ key }) => key));
        link.onData((data, handle) => {
          const { claim, holds, takes, done, error, read } = data;
          if (read === true) hasRead.resolve();
          if (typeof claim === "string" && keys.has(claim)) {
            claimed.add(claim);
            lend(claim, holds === true && link.sendsHandles, takes === true);
          }
          if (typeof holds === "string" && claimed.has(holds)) held.add(holds);
          if (done === true && error === undefined) answer.resolve(handle);
          else if (done === true) answer.reject(new Error(`the new process cannot listen on ${error}`));
        });
        if (sockets.length > 0) await link.send({ sockets });
      },
      async commit() {
        // Deno 2.9 loses a socket that arrives in one piece with another message: the new process must have read all before.
        if (claimed.size > 0) await hasRead.promise;
        for (const key of claimed) {
          signal.throwIfAborted();
          await saveState(key);
        }
      },
      async handedOver() {
        await pause(clock, 0); // For the events of the connections that have been accepted.
        await Promise.all([...servers].map(async ([key, server]) => {
          if (await server.suspend()) suspended.add(key);
        }));
      },
      retire() {
        for (const server of servers.values()) server.release();
        close();
      },
      async rollback(reason) {
        if (reason instanceof ReloadError && reason.code === "check") { for (const key of [...suspended]) await takeBack(key); }
        const keys = [...suspended];
        const results = await Promise.allSettled(keys.map((key) => servers.get(key)?.resume()));
        for (const server of servers.values()) server.release();
        const errors = results.flatMap((result, i) =>
          result.status === "rejected" ? [`${keys[i]}: ${describeError(result.reason)}`] : []
        );
        if (errors.length > 0) throw new Error(`no longer listening on ${errors.join(", ")}; start the program again`);
      },
      explain: (code) => explainMissing(code, open().filter(([key]) => !claimed.has(key)).map(([key]) => key)),
    };
  }

  function incoming({ link, offered: allOffered }: IncomingReload): IncomingHandover {
    const complete = Promise.withResolvers<void>();
    claim = (key) => {
      link.send({ claim: key, holds: adapter.held !== undefined, takes: link.descriptors !== undefined }).catch(() => {});
      const isComplete = () => [...offered.keys()].every((key) => servers.get(key)?.isFree === false);
      // The application may close it in the same turn: it only wanted to know whether the port is free.
      if (isComplete()) clock.timer(0, () => isComplete() && complete.resolve());
    };

    /** The servers that accept as soon as this process is in charge. */
    const kept = new Set<BoundServer>();

    async function take(key: string, server: BoundServer, isFree: boolean, handle: unknown): Promise<void> {
      try {
        // The predecessor gets one back before this process accepts: what that has accepted would be lost with it, should the commit fail.
        const held = adapter.held?.(handle);
        if (held !== undefined) server.hold(held);
        // Whoever has lent a descriptor keeps its own.
        if (server.isHeld && (held !== undefined || handle === undefined)) {
          kept.add(server);
          return await link.send({ done: true }, server.heldHandle);
        }
        await (isFree ? server.openAnew() : server.open(handle));
        // Where sockets can be kept, the predecessor gets one back, for as long as it may have to take charge again.
        await link.send({ done: true }, adapter.held && server.listener?.rawHandle);
      } catch (error) {
        await link.send({ done: true, error: `${key}: ${describeError(error)}` }).catch(() => {});
      }
    }

    /** Gives a socket back to the predecessor, or makes room for it. */
    async function giveBack(server: BoundServer): Promise<void> {
      const { listener } = server;
      if (!link.sendsHandles) server.close();
      await link.send({ done: true }, link.sendsHandles ? listener?.rawHandle ?? listener?.handle : undefined);
      server.close();
    }

    link.onData((data, handle) => {
      const { sockets, key, isFree, hold, number, back, close } = data;
      if (Array.isArray(sockets)) {
        offered = new Map(sockets.map((socket) => [String(socket?.key), parseAddress(socket?.address)]));
        known.resolve();
      }
      const server = servers.get(String(key));
      if (server !== undefined && back === true) return giveBack(server);
      if (close === true) return server?.close(); // What was given back has not come.
      if (server === undefined || server.listener !== undefined) return;
      if (hold !== true) return void take(String(key), server, isFree === true, handle);
      server.hold(receiveHeld(link, number) ?? adapter.held?.(handle));
      if (server.isHeld) link.send({ holds: key }).catch(() => {});
    });

    return {
      complete: allOffered.then(() => {
        known.resolve();
        if (offered.size === 0) return;
        link.send({ read: true }).catch(() => {});
        return complete.promise;
      }),
      takeOver(predecessor) {
        known.resolve();
        isWaiting = false;
        offered = new Map();
        release?.();
        const isGone = predecessor === "gone";
        for (const server of servers.values()) {
          if (server.listener !== undefined || !(isGone || kept.has(server))) continue;
          // Its sockets are closed with it, except those that this process has as well.
          (isGone ? server.resume() : server.open()).catch((error) => server.server.emit("error", error));
        }
      },
      revoke: close,
    };
  }

  return {
    handover: { name: "the bound servers", outgoing, incoming, isListening: () => open().length > 0 },
    async bind(server, request) {
      if (isWaiting) release ??= clock.hold();
      await known.promise;
      const key = keyOf(request, servers);
      const present = servers.get(key);
      if (present !== undefined && !present.isFree) {
        throw Object.assign(new TypeError(`bind: this process listens on ${key} already`), { code: "EADDRINUSE" });
      }
      const used = new Set([...servers.values()].map(({ fd }) => fd));
      const fd = findActivated(adapter.activated.filter(({ fd }) => !used.has(fd)), request);
      const bound = createBoundServer(adapter, clock, server, request, fd, offered.get(key));
      if (offered.has(key)) {
        servers.set(key, bound);
        server.address = () => bound.address ?? null; // Many programs print it at once.
        return claim(key);
      }
      if (request.name !== undefined && fd === undefined && request.options.port === undefined) {
        throw new TypeError(`bind: no socket of the name ${request.name} was handed to this process, and no port is given`);
      }
      servers.set(key, bound);
      try {
        await bound.open();
      } catch (error) {
        servers.delete(key);
        throw error;
      }
    },
    isActivated: (path) => adapter.activated.some(({ address }) => address === path),
    close,
    servers: () => [...servers].map(([key, { server }]) => [key, server]),
    has: (port) => [...servers.values()].some(({ address }) => address?.port === port),
  };
}
