/** The listening TCP sockets of this process, and how many there are in all. */
import type { Libc } from "../core/socket_adapter.ts";
import { addressKey, readSocketAddress } from "./addresses.ts";
import {
  AF_INET,
  AF_INET6,
  SO_ACCEPTCONN,
  SO_REUSEPORT,
  SOCK_CLOEXEC,
  SOL_SOCKET,
} from "./constants.ts";
import { listenForNobody } from "./listening.ts";
import { type ListedListener, listListeners } from "./netlink.ts";
import { possibleDescriptors, readProc, socketInode } from "./proc_files.ts";
import { hasAllListeners, parseListeners } from "./proc.ts";
import { getAddress, getOption } from "./socket_options.ts";
import { poll } from "./poll.ts";

/** A listening TCP socket of this process. */
export interface OwnListener {
  readonly fd: number;
  /** Its address: the same for all sockets that share it. */
  readonly key: string;
  /** Its address for people. */
  readonly name: string;
  readonly port: number;
  readonly reusePort: boolean;
}

const POLLIN = 1;

/** The listening TCP sockets of this process, whichever thread or library opened them. */
export function ownListeners(
  libc: Libc,
  descriptors: readonly number[] = possibleDescriptors(libc),
): OwnListener[] {
  const found: OwnListener[] = [];
  for (const fd of descriptors) {
    if (getOption(libc, fd, SOL_SOCKET, SO_ACCEPTCONN) !== 1) continue;
    const address = getAddress(libc, "getsockname", fd);
    const named = address && readSocketAddress(address);
    if (named !== undefined) {
      found.push({ fd, ...named, reusePort: getOption(libc, fd, SOL_SOCKET, SO_REUSEPORT) === 1 });
    }
  }
  return found;
}

/** How many sockets of all processes listen on each address. */
export function countListeners(libc: Libc): Map<string, number> {
  const counts = new Map<string, number>();
  for (const { key } of allListeners(libc)) counts.set(key, (counts.get(key) ?? 0) + 1);
  return counts;
}

/**
 * The sockets in the order in which they began to listen. That of their descriptors is another one
 * where a lower descriptor was closed between two of them.
 */
export function inOpeningOrder(libc: Libc, listeners: readonly OwnListener[]): OwnListener[] {
  if (listeners.length < 2) return [...listeners];
  const places = new Map(allListeners(libc).map(({ inode }, place) => [inode, place]));
  const placeOf = ({ fd }: OwnListener) => places.get(socketInode(libc, fd) ?? 0) ?? 0;
  return listeners.toSorted((a, b) => placeOf(a) - placeOf(b));
}

/**
 * The listening sockets of all processes, those of an address in the order in which they began to
 * listen. The kernel puts one of IPv4 before the others, and one of IPv6 behind those that it
 * shares its address with: __inet_hash in net/ipv4/inet_hashtables.c.
 */
function allListeners(libc: Libc): ListedListener[] {
  const ipv4 = listListeners(libc, AF_INET) ?? readTable(libc, "tcp");
  const ipv6 = listListeners(libc, AF_INET6) ?? readTable(libc, "tcp6");
  return [...ipv4.reverse(), ...ipv6];
}

/** Like `listListeners`, from /proc/net/tcp. */
function readTable(libc: Libc, table: string): ListedListener[] {
  const listeners = parseListeners(readProc(libc, `/proc/net/${table}`, hasAllListeners));
  return listeners.map(({ bytes, port, inode }) => ({
    key: addressKey(bytes, port),
    inode: Number(inode),
  }));
}

/** Whether there are connections that the server has not accepted yet. */
export function hasWaiting(libc: Libc, fd: number): boolean {
  return (poll(libc, fd, POLLIN) & POLLIN) !== 0;
}

/**
 * Takes a listening socket from its server: the descriptor refers to another socket from then on,
 * to which nobody can connect, until the server closes it.
 */
export function takeAway(libc: Libc, fd: number): boolean {
  const dummy = listenForNobody(libc);
  if (dummy === undefined) return false;
  const isDone = libc.dup3(dummy, fd, SOCK_CLOEXEC) === fd;
  libc.close(dummy);
  return isDone;
}
