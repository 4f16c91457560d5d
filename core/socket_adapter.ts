import type { BindableServer, FetchHandler } from "./token.ts";

/** Where a socket listens. */
export interface SocketAddress {
  /** The IP address. */
  readonly address: string;
  /** `IPv4` or `IPv6`. */
  readonly family: string;
  /** The TCP port. */
  readonly port: number;
}

/** What to listen on. */
export type ListenSource =
  /** A new socket. `options` are those of `server.listen()` of node:net. */
  | { options: Readonly<Record<string, unknown>> }
  /** A socket that came over the channel. */
  | { handle: unknown }
  /** A socket that this process was started with. */
  | { fd: number };

/** A listening socket from which nobody accepts: connections wait in it. */
export interface HeldSocket {
  /** What to listen on. */
  readonly source: ListenSource;
  /** Closes it, where nobody has listened on it. */
  release(): void;
}

/** A server that listens. */
export interface Listener {
  /** What the channel can send, so that another process listens on the same socket. */
  readonly handle: unknown;
  /** The socket as another process can have it without accepting from it: what `handle` of a {@linkcode ListenSource} may be as well. */
  readonly inert?: unknown;
  /** Keeps the socket when the listener is closed, so that it can be listened on once more. Where there is no `inert` one. */
  hold?(): Promise<HeldSocket | undefined>;
  /** Does it still listen? The application may close its server at any time. */
  readonly isOpen: boolean;
  /** Where it listens; `undefined` for a path. */
  readonly address: SocketAddress | undefined;
  /** Stops listening, and does nothing about connections, also idle ones. */
  close(): void;
  /** The same when another process listens on the same socket, at a moment in which no connection is lost. Only where not every moment is good. */
  letGo?(): Promise<void>;
}

/** File operations on the paths of unix sockets. They throw as the runtime does. */
export interface SocketFiles {
  /** What is at a path itself; links are not followed. */
  kind(path: string): "socket" | "other" | "nothing";
  /** The permission bits of a socket. */
  mode(path: string): number;
  /** Sets the permission bits. */
  chmod(path: string, mode: number): void;
  /** Gives a file another name. */
  link(from: string, to: string): void;
  /** Renames a file; what was there is replaced. */
  rename(from: string, to: string): void;
  /** Removes a file; where there is none, that is as well. */
  remove(path: string): void;
}

/**
 * The calls of the C library that steering takes, with their numbers and structures as on Linux; -1 says that one failed.
 * Pathnames end with a NUL.
 */
export interface Libc {
  /** socket(2) */
  socket(domain: number, type: number, protocol: number): number;
  /** bind(2) */
  bind(fd: number, address: Uint8Array, length: number): number;
  /** listen(2) */
  listen(fd: number, backlog: number): number;
  /** dup(2) */
  dup3(from: number, to: number, flags: number): number;
  /** close(2) */
  close(fd: number): number;
  /** getsockopt(2) */
  getsockopt(fd: number, level: number, name: number, value: Uint8Array, length: Uint8Array): number;
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
  /** Where a buffer is in memory. It stays there as long as it exists. */
  addressOf(buffer: Uint8Array): bigint;
}

/** A server of the runtime's own. */
export interface NativeServer {
  /** The port that it listens on; `undefined` on a unix socket. */
  readonly port: number | undefined;
  /** Finishes what is under way, and listens no more. */
  stop(): Promise<unknown>;
}

/** What sockets/ needs of a runtime. */
export interface SocketAdapter {
  /** Makes a server listen. Rejects when that cannot be done. */
  listen(server: BindableServer, source: ListenSource): Promise<Listener>;
  /** The sockets that this process was started with, in their order, and where they listen as far as that is known; sd_listen_fds(3). */
  readonly activated: readonly { fd: number; name: string; address: SocketAddress | string | undefined }[];
  /** The operations on files. */
  files(): Promise<SocketFiles>;
  /** Does somebody accept connections at this path? */
  isServed(path: string): Promise<boolean>;
  /** The descriptors of this process; `undefined` where they cannot be told. */
  descriptors(): number[] | undefined;
  /**
   * The C library, or why it cannot be called. Only where a server can listen that is not node's own, and that no handle can be
   * given to: Deno.serve, Bun.serve.
   */
  readonly libc?: (() => Promise<Libc | string>) | undefined;
  /** Serves a fetch handler with the runtime's own server, on a socket that a successor can share. Only where there is one. */
  readonly serve?:
    | ((handler: FetchHandler, where: { port: number; host: string } | { path: string }) => Promise<NativeServer>)
    | undefined;
  /**
   * Makes a socket that came over the channel, and that nobody listens on, one that is held. Only where there are `inert` sockets: Deno
   * 2.9 closes what it sends, and Bun sends servers only.
   */
  readonly held?: ((handle: unknown) => HeldSocket | undefined) | undefined;
  /** Does a session of node:http2 that is closed end before its last answer is sent? */
  readonly cutsAnswers: boolean;
}
