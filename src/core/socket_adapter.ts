import type { DatagramAdapter } from "./datagrams.ts";
import type { Files } from "./files.ts";
import type { LiveSocket } from "./live.ts";
import type { BindableServer } from "./token.ts";

/** Where a socket listens. */
export interface SocketAddress {
  /** The IP address. */
  readonly address: string;
  /** `IPv4` or `IPv6`. */
  readonly family: string;
  /** The TCP port. */
  readonly port: number;
}

/** The socket to listen on. */
export type ListenSource =
  /** A new socket, with the options of `server.listen()` of node:net. */
  | { options: Readonly<Record<string, unknown>> }
  /** A socket that came over the channel. */
  | { handle: unknown }
  /** A socket that this process was started with. */
  | { fd: number }
  /** A socket that came as a descriptor, which belongs to the server from then on. */
  | { received: number };

/** The descriptor of a source that is one. */
export const descriptorOf = (source: { fd: number } | { received: number }): number =>
  "fd" in source ? source.fd : source.received;

/** A listening socket of this process, of the library or of the program. */
export interface OwnSocket {
  /** Its descriptor. */
  readonly fd: number;
  /** Where it listens: an address, or the path of a unix socket. */
  readonly address: SocketAddress | string;
}

/**
 * A listening socket that this process retains without accepting from it: connections wait in it.
 */
export interface RetainedSocket {
  /** The way to listen on it. */
  readonly source: ListenSource;
  /** Closes it, if no server listens on it. */
  release(): void;
}

/** A listening socket that can be taken out of its server, and be passed on as a descriptor. */
export interface TakeableSocket {
  /**
   * Its descriptor; `undefined` where it is not found. Looking for it takes a moment: called once
   * in a reload.
   */
  descriptor(): number | undefined;
  /** Stops accepting, without closing the server: what connects waits. Returns whether it did. */
  pause(): boolean;
  /** Accepts again. Throws where that is not possible. */
  resume(): void;
}

/** A server that listens. */
export interface Listener {
  /**
   * What the channel sends, so that another process listens on the same socket; perhaps a promise
   * of it.
   */
  readonly handle: unknown;
  /**
   * Sent instead of `handle`, this gives another process the socket without making it accept. Node:
   * Bun sends servers only, Deno 2.9 closes it.
   */
  readonly rawHandle?: unknown;
  /**
   * How the socket is taken out of the server. Bun on Linux, whose servers take no handle: the C
   * library does it.
   */
  readonly takeable?: TakeableSocket | undefined;
  /**
   * Keeps the socket when the listener is closed, to listen on it again. Where there is no
   * `rawHandle`, and the socket cannot be opened again: Deno with a socket that it was started
   * with, Bun where a server of node:net is in front.
   */
  retain?(): Promise<RetainedSocket | undefined>;
  /** Whether it still listens. The application may close its server at any time. */
  readonly isOpen: boolean;
  /** Where it listens; `undefined` for a path. */
  readonly address: SocketAddress | undefined;
  /** Stops listening. Leaves all connections alone, also idle ones. */
  close(): void;
  /**
   * Closes at a moment in which no connection is lost, when another process has the socket. Only on
   * platforms where closing can reset accepted connections: Node on Windows.
   */
  letGo?(): Promise<void>;
}

/**
 * The calls of the C library that native servers need, with the numbers and structures of Linux on
 * 64-bit processors; they return -1 when they fail. Paths end with a NUL.
 */
export interface Libc {
  /** socket(2) */
  socket(domain: number, type: number, protocol: number): number;
  /** bind(2) */
  bind(fd: number, address: Uint8Array, length: number): number;
  /** connect(2) */
  connect(fd: number, address: Uint8Array, length: number): number;
  /** listen(2) */
  listen(fd: number, backlog: number): number;
  /** dup(2) */
  dup3(from: number, to: number, flags: number): number;
  /** close(2) */
  close(fd: number): number;
  /** getsockopt(2) */
  getsockopt(
    fd: number,
    level: number,
    name: number,
    value: Uint8Array,
    length: Uint8Array,
  ): number;
  /** setsockopt(2) */
  setsockopt(fd: number, level: number, name: number, value: Uint8Array, length: number): number;
  /** getsockname(2) */
  getsockname(fd: number, address: Uint8Array, length: Uint8Array): number;
  /** open(2) */
  open(path: Uint8Array, flags: number): number;
  /** read(2) */
  read(fd: number, buffer: Uint8Array, count: number): number;
  /** write(2) */
  write(fd: number, buffer: Uint8Array, count: number): number;
  /** readlink(2). What it writes does not end with a NUL. */
  readlink(path: Uint8Array, buffer: Uint8Array, size: number): number;
  /** fcntl(2), with a number as the argument. */
  fcntl(fd: number, command: number, argument: number): number;
  /** ioctl(2), with a buffer as the argument. */
  ioctl(fd: number, request: number, argument: Uint8Array): number;
  /** getpeername(2) */
  getpeername(fd: number, address: Uint8Array, length: Uint8Array): number;
  /** socketpair(2) */
  socketpair(domain: number, type: number, protocol: number, fds: Uint8Array): number;
  /** sendmsg(2) */
  sendmsg(fd: number, message: Uint8Array, flags: number): number;
  /** recvmsg(2) */
  recvmsg(fd: number, message: Uint8Array, flags: number): number;
  /** poll(2) */
  poll(fds: Uint8Array, count: number, milliseconds: number): number;
  /** epoll_create(2) */
  epoll_create1(flags: number): number;
  /** epoll_ctl(2) */
  epoll_ctl(epoll: number, operation: number, fd: number, event: Uint8Array): number;
  /** epoll_wait(2) */
  epoll_wait(epoll: number, events: Uint8Array, most: number, milliseconds: number): number;
  /**
   * The size of struct epoll_event: 12 bytes on x86-64, where it is packed, 16 elsewhere;
   * linux/eventpoll.h.
   */
  readonly epollEventBytes: 12 | 16;
  /** The address of a buffer in memory, which is valid as long as the buffer exists. */
  addressOf(buffer: Uint8Array): bigint;
}

/** One descriptor in an epoll instance. */
export interface Registration {
  /** The descriptors of the instance. Deno's has two: mio duplicates it. */
  readonly epolls: readonly number[];
  /** The events that are waited for, and how; epoll_ctl(2). */
  readonly events: number;
  /** What the runtime gets with an event: its own number, or an address in its memory. */
  readonly data: bigint;
  /** The inode of the file that is polled. The descriptor may belong to another one by now. */
  readonly inode: number;
}

/** How the descriptors of this process are polled, as far as they have not been replaced since. */
export interface Polled {
  /** How a descriptor is polled. */
  registrations(fd: number): readonly Registration[];
}

/** Open connections, which another process can take over. */
export interface ConnectionAdapter {
  /** How many may be on their way to the other process at once. */
  readonly window: number;
  /** Stops reading from a connection. What is read already stays in its buffer. */
  stop(socket: LiveSocket): void;
  /** Goes on reading. */
  start(socket: LiveSocket): void;
  /** What is sent over the channel for a connection; `undefined` where it cannot be sent. */
  handle(socket: LiveSocket): unknown;
  /** Makes a connection of what came over the channel. */
  adopt(handle: unknown): Promise<LiveSocket>;
  /**
   * Connections of HTTP/1 without a `handle`. Bun, which serves them without sockets of node:net.
   */
  readonly withoutHandles?: IdleDescriptors | undefined;
  /**
   * Lets a server of HTTP/1 serve a connection that waits for its next request, and count it as one
   * that it has accepted.
   *
   * @param unlimited Called with the socket where the server does not close it by itself when it is
   * not used.
   */
  serveIdle(
    server: BindableServer,
    socket: LiveSocket,
    unlimited: (socket: LiveSocket) => void,
  ): void;
}

/** Connections of HTTP/1 that wait for their next request, as descriptors. */
export interface IdleDescriptors {
  /**
   * Looks at the connections of this process. `undefined` where they cannot be taken out of their
   * servers.
   */
  look(): IdleTaker | undefined;
  /**
   * As `serveIdle`, for a connection that was taken, here or in the predecessor. The descriptor is
   * the server's from then on.
   */
  serve(server: BindableServer, fd: number, unlimited: (socket: LiveSocket) => void): void;
}

/**
 * Takes connections of HTTP/1 out of the servers of a runtime. Knows those that were there when it
 * was made.
 */
export interface IdleTaker {
  /** Lets the server read no more from a connection, where it is found. */
  stop(socket: LiveSocket): void;
  /** Lets the server read again. */
  start(socket: LiveSocket): void;
  /**
   * Takes those that are idle, and lets the server read from the others. It closes those that are
   * taken, of which their clients notice nothing. Not in a handler of requests: the answer may be
   * in a buffer.
   *
   * @returns The descriptors of the connections that were taken, which are the caller's.
   */
  take(sockets: readonly LiveSocket[]): number[];
  /** Closes such a descriptor. */
  close(fd: number): void;
}

/** What can be seen of a connection of HTTP/1 without listening to its requests. */
export interface Http1View {
  /**
   * Whether it waits for its next request, as far as that can be known without changing anything.
   */
  isIdle(socket: LiveSocket): boolean;
  /** A value that changes whenever it is used. */
  mark(socket: LiveSocket): unknown;
  /** Ends one that is idle. Returns whether it was. */
  end(socket: LiveSocket): boolean;
}

/** What the handovers of sockets need of a runtime. */
export interface SocketAdapter {
  /** Makes a server listen. Rejects when that fails. */
  listen(server: BindableServer, source: ListenSource): Promise<Listener>;
  /**
   * The sockets that this process was started with, and their addresses where those are known;
   * sd_listen_fds(3).
   */
  readonly activated: readonly {
    fd: number;
    name: string;
    address: SocketAddress | string | undefined;
  }[];
  /** The operations on files. */
  files(): Files;
  /** Whether a server accepts connections at this path. */
  isServed(path: string): Promise<boolean>;
  /** The descriptors of this process; `undefined` where they cannot be listed. */
  descriptors(): number[] | undefined;
  /** The listening sockets of this process; `undefined` where they cannot be listed. */
  listening(): readonly OwnSocket[] | undefined;
  /**
   * Takes a listening socket from its server, also from one of the program: nothing is accepted
   * there any more. Returns whether that was possible.
   */
  stopListening(socket: OwnSocket): boolean;
  /**
   * The C library, or why it cannot be called. Only where there are servers that cannot take over a
   * socket, Deno.serve and Bun.serve, and only on Linux: elsewhere no other socket can be put below
   * one that is polled. Node has no such servers, and no foreign function calls.
   */
  readonly libc?: (() => Libc | string) | undefined;
  /**
   * Retains a `rawHandle` that came over the channel. Node, except on Windows: Deno 2.9 closes the
   * sockets that it sends, and Bun sends servers only.
   */
  readonly retain?: ((handle: unknown) => RetainedSocket | undefined) | undefined;
  /** Datagram sockets. All runtimes have it; an adapter for tests need not. */
  readonly datagrams?: DatagramAdapter | undefined;
  /**
   * The view of a connection of HTTP/1 that is not one of node:net below; `undefined` for one that
   * is. Bun: Node and Deno have only such.
   */
  readonly http1?: ((socket: LiveSocket) => Http1View | undefined) | undefined;
  /** Open connections. Not on Windows, where no runtime can send them. */
  readonly connections?: ConnectionAdapter | undefined;
}
