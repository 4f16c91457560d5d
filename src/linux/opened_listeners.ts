/**
 * Which descriptors listen for a server that was opened a moment ago: neither Bun.serve nor
 * Deno.serve tells.
 */
import type { Libc } from "../core/socket_adapter.ts";
import { socketInode } from "./proc_files.ts";
import { type OpenSocket, scanSockets, type SocketScan } from "./socket_scan.ts";

/** A listening socket of this process, and all its descriptors. */
export interface ListeningFile {
  /** The number by which the kernel knows the socket. */
  readonly inode: number;
  /** One of the descriptors, for its address. */
  readonly socket: OpenSocket;
  /**
   * The descriptors that a runtime polls. Those of `deno serve --parallel` have one socket, and
   * each thread a descriptor of it.
   */
  readonly polled: readonly number[];
  /**
   * Further descriptors. `deno serve --parallel` keeps one, of which it makes those of the threads.
   */
  readonly unpolled: readonly number[];
}

/** The listening sockets in a scan. */
export function listeningFiles(libc: Libc, scan: SocketScan): ListeningFile[] {
  const files = new Map<
    number,
    { inode: number; socket: OpenSocket; polled: number[]; unpolled: number[] }
  >();
  for (const socket of scan.sockets.values()) {
    if (socket.kind !== "listener") continue;
    const inode = socketInode(libc, socket.fd);
    if (inode === undefined) continue; // Another thread has closed it.
    const file = files.get(inode) ?? { inode, socket, polled: [], unpolled: [] };
    files.set(inode, file);
    const isPolled = scan.registrations(socket.fd).some((registration) =>
      registration.inode === inode
    );
    (isPolled ? file.polled : file.unpolled).push(socket.fd);
  }
  return [...files.values()];
}

/**
 * Opens a server, and says which sockets listen for it: those that did not before. Bun 1.4 and Deno
 * 2.9 listen, and poll the socket, when the call returns. Another thread may have opened one at the
 * same time: check the address.
 */
export function findOpened<T>(
  libc: Libc,
  open: () => T,
): { readonly server: T; readonly listeners: readonly ListeningFile[] } {
  const before = new Set(listeningFiles(libc, scanSockets(libc)).map(({ inode }) => inode));
  const server = open();
  const after = listeningFiles(libc, scanSockets(libc));
  return {
    server,
    listeners: after.filter(({ inode, polled }) => polled.length > 0 && !before.has(inode)),
  };
}
