/**
 * Servers of the runtime's own that the token has adopted. They take no socket; but a runtime knows a socket by its descriptor, and another
 * file can be put below that (src/linux/transplant.ts). So all generations have one socket, with one queue of connections.
 */
import { describeError } from "../core/describe_error.ts";
import type { AdoptedServer, NativeConnections } from "../core/native.ts";
import { pause } from "../core/pause.ts";
import type { Libc, SocketAdapter } from "../core/socket_adapter.ts";
import { listenAt, parsePlace, placeOf } from "../linux/places.ts";
import { scanSockets, type SocketScan } from "../linux/socket_scan.ts";
import { duplicate, giveBack, takeListener, type TakenListener } from "../linux/transplant.ts";
import { whenCancelled } from "../core/when_cancelled.ts";
import type { OfferedAddress } from "../resources/native_servers.ts";
import type { ProgramContext } from "../reload/context.ts";
import type { Handover, IncomingHandover, IncomingReload, OutgoingHandover, OutgoingReload } from "../reload/handover.ts";
import { explainMissing } from "./missing.ts";
import { createNativeListeners, type FoundServer } from "./native_listeners.ts";
import { createWarnOnce } from "./warn_once.ts";
import { whenFree } from "./when_free.ts";

/** A server whose connections can move. */
export interface MovableServer {
  readonly server: AdoptedServer;
  readonly connections: NativeConnections;
  /** The port at which they were accepted. */
  readonly port: number;
}

/** The handover, and what other handovers have to know. */
export interface NativeHandover {
  readonly handover: Handover;
  /** Whether an adopted server listens on this port, or on a unix socket of this name. */
  has(where: number | string): boolean;
  /** The sockets of the adopted servers. */
  findAll(libc: Libc, scan: SocketScan): readonly FoundServer[];
  /** The servers whose connections can move, as this reload has found them when it was prepared. */
  movable(): readonly MovableServer[];
  /** The key of the server that has accepted a connection, where connections move; during a reload. */
  serverOf(scan: SocketScan, fd: number): string | undefined;
}

/**
 * The handover of the adopted servers.
 *
 * @param settled Resolves when all servers have their own sockets.
 */
export function createNativeHandover(
  adapter: Pick<SocketAdapter, "libc" | "files">,
  program: ProgramContext,
  settled: () => Promise<void>,
): NativeHandover {
  const { clock, natives, token, warn } = program;
  const { servers } = natives;
  /** The servers as the last reload has found them. */
  let last: readonly FoundServer[] = [];
  const warnOnce = createWarnOnce(warn);
  const { findAll, put } = createNativeListeners(servers, adapter.files, warnOnce);

  function movable(): MovableServer[] {
    return last.flatMap(({ server, file: { socket: { localPort: port } } }) => {
      const { connections } = server;
      return port === undefined || connections === undefined ? [] : [{ server, connections, port }];
    });
  }

  /** Puts the socket below a server that this process was started with. The descriptor stays: a new process may need it. */
  function putActivated(libc: Libc, server: AdoptedServer): void {
    put(libc, scanSockets(libc), server, duplicate(libc, server.activated as number));
  }

  /** Gives a server of the first generation the socket that the process was started with. */
  function activate(server: AdoptedServer): void {
    if (server.activated === undefined || natives.inherited.has(server.key)) return;
    const libc = adapter.libc?.();
    try {
      if (typeof libc === "object") putActivated(libc, server);
    } catch (error) {
      warn(describeError(error));
    }
  }
  servers.forEach(activate);
  natives.onOpen = activate;
  whenCancelled(token, ({ kind }) => {
    if (kind !== "shutdown") return;
    const libc = adapter.libc?.();
    // Whoever connects is refused, unless another process has the socket.
    for (const { activated } of servers) if (activated !== undefined && typeof libc === "object") libc.close(activated);
  });

  function outgoing({ link }: OutgoingReload): OutgoingHandover {
    let libc: Libc | undefined;
    let found: readonly FoundServer[] = [];
    /** The keys of those that the new process has. */
    const claimed = new Set<string>();
    const taken: TakenListener[] = [];
    const ours = () => found.filter(({ server }) => claimed.has(server.key));

    function send({ server, file }: FoundServer): Promise<void> {
      const number = link.descriptors?.send([file.polled[0] as number]);
      if (number === undefined) throw new Error(`the socket of ${server.key} cannot be sent: are there descriptors left?`);
      return link.send({ socket: server.key, number });
    }

    return {
      async prepare() {
        if (servers.length === 0) return;
        await settled();
        const loaded = adapter.libc?.() ??
          "sockets of native servers are handed over on Linux only: a reload may lose connections";
        if (typeof loaded === "string") return warnOnce(loaded);
        libc = loaded;
        found = last = findAll(libc, scanSockets(libc));
      },
      sendsDescriptors: () => found.length > 0,
      native: () =>
        found.map(({ server: { key, reported }, file }): OfferedAddress => ({
          kind: "server",
          key,
          reported,
          place: placeOf(libc as Libc, file.polled[0] as number),
        })),
      async offer() {
        if (libc === undefined || found.length === 0) return;
        const keys = new Set(found.map(({ server }) => server.key));
        link.onData(({ claim }) => {
          if (typeof claim === "string" && keys.has(claim)) claimed.add(claim);
        });
        for (const one of found) await send(one);
      },
      commit() {
        for (const { server } of ours()) if (server.connections === undefined) server.setClosing(true);
      },
      async handedOver() {
        if (libc === undefined || claimed.size === 0) return;
        await pause(clock, 0); // For the events of the connections that have been accepted.
        const scan = scanSockets(libc);
        for (const { server, file: { polled } } of ours()) {
          for (const fd of polled) {
            const listener = takeListener(libc, scan, fd);
            if (typeof listener === "object") taken.push(listener);
            else warnOnce(`${server.key} goes on accepting until this process ends: ${listener}`);
          }
        }
      },
      retire() {
        for (const { real } of taken) libc?.close(real);
      },
      rollback() {
        for (const { server } of ours()) server.setClosing(token.isCancelled);
        if (libc === undefined || taken.length === 0) return;
        const scan = scanSockets(libc);
        const refusals = taken.map((listener) => giveBack(libc as Libc, scan, listener)).filter((why) => why !== undefined);
        if (refusals.length > 0) throw new Error(`no longer accepting: ${refusals.join(", ")}; start the program again`);
      },
      explain: (code) =>
        explainMissing(code, found.filter(({ server }) => !claimed.has(server.key)).map(({ server }) => server.key)),
    };
  }

  function incoming({ link, offered }: IncomingReload): IncomingHandover {
    const { inherited } = natives;
    if (inherited.size === 0) return {};
    const libc = adapter.libc?.();
    const complete = Promise.withResolvers<void>();
    /** The sockets of the predecessor, by key. */
    const sockets = new Map<string, number>();
    const claimed = new Set<string>();

    /** Tells the predecessor of a server that can have its socket. */
    function claim(): void {
      if (typeof libc !== "object") return;
      for (const server of servers) {
        if (!sockets.has(server.key) || claimed.has(server.key)) continue;
        claimed.add(server.key);
        link.send({ claim: server.key }).catch(() => {});
      }
      if ([...inherited.keys()].every((key) => claimed.has(key))) clock.timer(0, complete.resolve);
    }

    /** There is no socket of the predecessor for it: it died too early, or the server is opened too late. */
    async function listenAnew(libc: Libc, server: AdoptedServer): Promise<void> {
      const { path, own } = server;
      const place = parsePlace(inherited.get(server.key)?.place);
      if (path !== undefined) return adapter.files().rename(String(own), path);
      if (server.activated !== undefined) return putActivated(libc, server);
      const fd = await whenFree(clock, () => {
        const fd = place && listenAt(libc, place);
        if (fd !== undefined) return fd;
        throw Object.assign(new Error(`${server.key} cannot be listened on`), { code: "EADDRINUSE" });
      });
      put(libc, scanSockets(libc), server, fd);
    }

    function openAlone(libc: Libc, server: AdoptedServer): void {
      listenAnew(libc, server).catch((error) => warn(describeError(error)));
    }

    natives.onOpen = (server) => {
      activate(server);
      claim();
    };
    link.onData(({ socket, number }) => {
      const [fd] = (typeof number === "number" ? link.descriptors?.receive(number) : undefined) ?? [];
      if (fd === undefined || typeof socket !== "string") return;
      if (sockets.has(socket) || !inherited.has(socket)) return typeof libc === "object" ? void libc.close(fd) : undefined;
      sockets.set(socket, fd);
      claim();
    });

    return {
      complete: offered.then(() => inherited.size > 0 ? complete.promise : undefined),
      takeOver(predecessor) {
        natives.onOpen = (server) => {
          // It is at its private place, because the predecessor had this address when this process was started.
          if (typeof libc === "object" && inherited.has(server.key)) openAlone(libc, server);
          else activate(server);
        };
        if (typeof libc !== "object") return;
        const errors: string[] = [];
        const scan = scanSockets(libc); // Stays right for each server whose descriptor has not been replaced yet.
        for (const server of servers.filter(({ key }) => inherited.has(key))) {
          const socket = sockets.get(server.key);
          sockets.delete(server.key);
          try {
            if (socket !== undefined) put(libc, scan, server, socket);
            else if (predecessor === "gone") openAlone(libc, server);
          } catch (error) {
            errors.push(describeError(error));
          }
        }
        for (const fd of sockets.values()) libc.close(fd); // Of servers that this version does not have any more.
        if (errors.length > 0) throw new Error(errors.join(", "));
      },
      revoke() {
        if (typeof libc !== "object") return;
        const scan = scanSockets(libc);
        for (const { file: { polled } } of findAll(libc, scan).filter(({ server: { key } }) => inherited.has(key))) {
          for (const fd of polled) {
            const listener = takeListener(libc, scan, fd);
            if (typeof listener === "object") libc.close(listener.real);
          }
        }
      },
    };
  }

  return {
    findAll,
    movable,
    serverOf(scan, fd) {
      const port = scan.sockets.get(fd)?.localPort;
      return movable().findLast((one) => one.port === port)?.server.key;
    },
    handover: { name: "the native servers", outgoing, incoming, isListening: () => servers.length > 0 },
    has: (where) =>
      servers.some(({ own, path, reported }) =>
        // The kernel keeps the name under which the first generation has made a unix socket.
        own === where || reported.port === where ||
        (typeof where === "string" && path !== undefined && where.startsWith(`${path}.`))
      ),
  };
}
