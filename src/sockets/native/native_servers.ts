/**
 * Servers of the runtime's own that the token has adopted. They take no socket; but a runtime knows
 * a socket by its descriptor, and another file can be put below that (src/linux/transplant.ts). So
 * all generations have one socket, with one queue of connections.
 */
import { attempt } from "../../core/attempt.ts";
import { describeError } from "../../core/describe_error.ts";
import type { AdoptedServer, NativeConnections } from "../../core/native.ts";
import type { Libc, SocketAdapter } from "../../core/socket_adapter.ts";
import { pause } from "../../core/pause.ts";
import { whenCancelled } from "../../core/when_cancelled.ts";
import { type ListeningFile, listeningFiles } from "../../linux/opened_listeners.ts";
import { socketInode } from "../../linux/proc_files.ts";
import { scanSockets, type SocketScan } from "../../linux/socket_scan.ts";
import { takeable } from "../../linux/taken_listener.ts";
import { duplicate, replaceFile, replaceUnpolled } from "../../linux/transplant.ts";
import type { ProgramContext } from "../../reload/context.ts";
import type { Handover } from "../../reload/handover.ts";
import { createWarnOnce, MAX_ACCEPT_TURNS, nameOf } from "../common.ts";
import { IncomingNative, OutgoingNative } from "./handover.ts";
import { createRawConnections, type RawConnections } from "./raw_connections.ts";

/** A server, and its socket. */
export interface FoundServer {
  readonly server: AdoptedServer;
  readonly file: ListeningFile;
}

/** A server whose connections can move. */
export interface MovableServer {
  readonly server: AdoptedServer;
  readonly connections: NativeConnections;
  /** The port at which they were accepted. */
  readonly port: number;
}

/** Names a server for a person. */
export function nameOfServer({ key, reported }: AdoptedServer): string {
  return nameOf(key, reported.port);
}

/** The adopted servers of this process, and their sockets. */
export class NativeHandover {
  readonly handover: Handover = {
    name: "the native servers",
    outgoing: (reload) => new OutgoingNative(this, reload),
    incoming: (reload) =>
      this.program.natives.inherited.size > 0 ? new IncomingNative(this, reload) : {},
    isListening: () => this.program.natives.servers.length > 0,
  };
  readonly adapter: Pick<SocketAdapter, "libc" | "files">;
  readonly program: ProgramContext;
  /** Resolves when all servers have their own sockets. */
  readonly settled: () => Promise<void>;
  readonly warnOnce: (message: string) => void;
  /** The servers as the last reload has found them. */
  #last: readonly FoundServer[] = [];
  /** The sockets below servers, but for those that a server has opened itself and still has. */
  readonly #inodes = new WeakMap<AdoptedServer, number>();

  constructor(
    adapter: Pick<SocketAdapter, "libc" | "files">,
    program: ProgramContext,
    settled: () => Promise<void>,
  ) {
    const { natives, token, warn } = program;
    this.adapter = adapter;
    this.program = program;
    this.settled = settled;
    this.warnOnce = createWarnOnce(warn);
    for (const server of natives.servers) this.activate(server);
    natives.onOpen = (server) => this.activate(server);
    whenCancelled(token, ({ kind }) => kind === "shutdown" && this.#closeActivated());
  }

  /** The C library, if it can be called. */
  get libc(): Libc | undefined {
    const libc = this.adapter.libc?.();
    return typeof libc === "object" ? libc : undefined;
  }

  /** Whether an adopted server listens on this port, or on a unix socket of this name. */
  has(where: number | string): boolean {
    // The kernel keeps the name under which the first generation has made a unix socket.
    const isAt = (path: string) => typeof where === "string" && where.startsWith(`${path}.`);
    return this.program.natives.servers.some(({ own, path, reported }) =>
      own === where || reported.port === where || (path !== undefined && isAt(path))
    );
  }

  /** The servers that listen, and whose socket can be told from others. */
  findAll(libc: Libc, scan: SocketScan): readonly FoundServer[] {
    const files = listeningFiles(libc, scan).filter(({ polled }) => polled.length > 0);
    return this.program.natives.servers.flatMap((server) => {
      const file = this.#find(libc, files, server);
      return file === undefined ? [] : [{ server, file }];
    });
  }

  /** As {@linkcode findAll}, for a reload: `movable` and `serverOf` know what was found. */
  look(libc: Libc): readonly FoundServer[] {
    return this.#last = this.findAll(libc, scanSockets(libc));
  }

  /** The servers whose connections can move, as this reload has found them when it was prepared. */
  movable(): readonly MovableServer[] {
    return this.#last.flatMap(({ server, file: { socket: { localPort: port } } }) => {
      const { connections } = server;
      return port === undefined || connections === undefined ? [] : [{ server, connections, port }];
    });
  }

  /**
   * Another socket is below a server from now on. Connections that come back to this process are
   * accepted from it, whatever it is.
   */
  setInode(server: AdoptedServer, inode: number): void {
    this.#inodes.set(server, inode);
  }

  /** The key of the server that has accepted a connection, where connections move. */
  serverOf(scan: SocketScan, fd: number): string | undefined {
    const port = scan.sockets.get(fd)?.localPort;
    return this.movable().findLast((one) => one.port === port)?.server.key;
  }

  /**
   * Puts a socket below a server, which accepts from it at once. The descriptor is closed. Throws
   * where that is not possible.
   */
  put(libc: Libc, scan: SocketScan, server: AdoptedServer, fd: number): void {
    const file = this.#find(libc, listeningFiles(libc, scan), server);
    const inode = socketInode(libc, fd);
    const refusals = file === undefined
      ? ["its own socket is not found"]
      : replaceAll(libc, scan, file, fd);
    libc.close(fd);
    if (inode !== undefined) this.#inodes.set(server, inode);
    const why = refusals.find((refusal) => refusal !== undefined);
    if (why !== undefined) {
      throw new Error(
        `${nameOfServer(server)} accepts no connections: ${why}. Start the program again`,
      );
    }
    if (typeof server.own === "string") this.adapter.files().remove(server.own);
  }

  /**
   * Puts the socket below a server that this process was started with. The descriptor stays: a new
   * process may need it.
   */
  putActivated(libc: Libc, server: AdoptedServer): void {
    this.put(libc, scanSockets(libc), server, duplicate(libc, server.activated as number));
  }

  /** Gives a server of the first generation the socket that the process was started with. */
  activate(server: AdoptedServer): void {
    const { natives: { inherited }, warn } = this.program;
    if (server.activated === undefined || inherited.has(server.key)) return;
    const { libc } = this;
    try {
      if (libc !== undefined) this.putActivated(libc, server);
    } catch (error) {
      warn(describeError(error));
    }
  }

  /**
   * Takes its socket from a server that still has it, because it has no successor. What connects
   * from then on is refused, unless another process has the socket. What has connected is accepted
   * before, as far as that ends: what waits in a socket that is closed is reset. Does nothing where
   * the socket is not found.
   */
  async closeLast(server: AdoptedServer): Promise<void> {
    const { libc, program: { clock } } = this;
    if (libc === undefined || this.#wasTaken(libc, server)) return;
    const scan = scanSockets(libc);
    const found = this.findAll(libc, scan).find((found) => found.server === server);
    const sockets = found?.file.polled.map((fd) => takeable(libc, fd, scan)) ?? [];
    let turns = 0;
    const hasWaiting = () =>
      turns < MAX_ACCEPT_TURNS && sockets.some((socket) => socket.hasWaiting);
    for (;;) {
      do {
        await pause(clock, 0);
        turns++;
      } while (hasWaiting());
      const isTaken = sockets.map((socket) => socket.take()).every((why) => why === undefined);
      if (!isTaken || !hasWaiting()) {
        for (const socket of sockets) socket.close();
        return;
      }
      if (sockets.some((socket) => socket.giveBack() !== undefined)) return;
    }
  }

  /** The connections of a server whose connections are the application's. */
  rawOf(server: AdoptedServer): RawConnections | undefined {
    const { libc, program: { clock } } = this;
    if (libc === undefined || server.endAccepting === undefined) return undefined;
    const { own, reported: { port } } = server;
    if (typeof port === "number") return createRawConnections(libc, clock, port);
    // The kernel keeps the name under which the first generation has made a unix socket.
    const isOurs = (found: FoundServer) => found.server === server;
    const found = this.#last.find(isOurs) ?? this.findAll(libc, scanSockets(libc)).find(isOurs);
    return createRawConnections(libc, clock, found?.file.socket.local()?.name ?? own);
  }

  /** Whether the new process of the last reload has its socket, and another file is below it. */
  #wasTaken(libc: Libc, server: AdoptedServer): boolean {
    const file = this.#last.find((found) => found.server === server)?.file;
    return file !== undefined && file.polled.every((fd) => socketInode(libc, fd) !== file.inode);
  }

  /** What connects from now on is refused, unless another process has the socket. */
  #closeActivated(): void {
    const { libc } = this;
    for (const { activated } of this.program.natives.servers) {
      if (activated !== undefined) libc?.close(activated);
    }
  }

  /**
   * The socket of a server; `undefined` where the application has stopped it, or it cannot be told
   * from others.
   */
  #find(
    libc: Libc,
    files: readonly ListeningFile[],
    server: AdoptedServer,
  ): ListeningFile | undefined {
    const known = this.#inodes.get(server);
    const found = files.filter(({ inode, socket }) => {
      if (known !== undefined) return inode === known;
      const isPort = typeof server.own === "number";
      return (isPort ? socket.localPort : socket.local()?.name) === server.own;
    });
    const [file, ...others] = found.length > 1 ? found.filter((one) => isAt(server, one)) : found;
    if (others.length > 0) {
      const [name, count] = [nameOfServer(server), others.length + 1];
      this.warnOnce(
        `which socket is that of ${name} cannot be told: ${count} have its port. A reload may lose connections`,
      );
      return undefined;
    }
    if (file === undefined) return undefined;
    this.#inodes.set(server, socketInode(libc, file.polled[0] ?? -1) ?? file.inode);
    return file;
  }
}

/** Whether a socket has the address that a server reports. */
function isAt({ reported: { hostname, address } }: AdoptedServer, { socket }: ListeningFile) {
  const reported = (address as { address?: unknown } | undefined)?.address ?? hostname;
  return normalHost(String(reported)) === normalHost(String(socket.local()?.host));
}

/** One way to write an IPv6 address. */
function normalHost(host: string): string {
  return host.includes(":") ? attempt(() => new URL(`http://[${host}]`).hostname) ?? host : host;
}

/**
 * Puts a socket below all descriptors of another one. Returns for each why that is not possible.
 */
function replaceAll(
  libc: Libc,
  scan: SocketScan,
  { inode, polled, unpolled }: ListeningFile,
  fd: number,
): (string | undefined)[] {
  const refusals = [
    ...unpolled.map((own) => replaceUnpolled(libc, scan, own, inode, fd)),
    ...polled.map((own) => replaceFile(libc, scan, own, fd)),
  ];
  if (unpolled.length === 0 || refusals.some((why) => why !== undefined)) return refusals;
  // A thread of `deno serve --parallel` may have made a descriptor meanwhile.
  const now = scanSockets(libc);
  const late = listeningFiles(libc, now).find((file) => file.inode === inode);
  return late === undefined ? refusals : replaceAll(libc, now, late, fd);
}
