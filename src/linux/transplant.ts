/**
 * Putting another socket below a descriptor that the runtime polls. A runtime knows a socket by the
 * number of its descriptor and by one registration in its epoll instance. Both are kept while the
 * file below is replaced, so that it notices nothing. JavaScript runs on the thread of the event
 * loop: the runtime neither reads nor writes in between.
 *
 * Measured on Linux 6.18, x86-64: Bun 1.4.5 registers level-triggered, Deno 2.9.6 edge-triggered.
 * EPOLL_CTL_ADD reports what is there already to both, so nothing that waits in the new file is
 * overlooked.
 */
import type { Libc, Polled, Registration } from "../core/socket_adapter.ts";
import {
  EPOLL_CTL_ADD,
  EPOLL_CTL_DEL,
  EPOLLIN,
  F_DUPFD_CLOEXEC,
  F_GETFL,
  F_SETFL,
  O_NONBLOCK,
  SOCK_CLOEXEC,
  SOCK_STREAM,
} from "./constants.ts";
import { listenForNobody } from "./listening.ts";
import { socketInode } from "./proc_files.ts";
import { createPair } from "./places.ts";

/** Why a descriptor was not touched, or is again as it was. For a message. */
export type Refusal = string;

/**
 * A second descriptor of a file, which no process that is started inherits; -1 where there is none
 * left.
 */
export function duplicate(libc: Libc, fd: number): number {
  return libc.fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

/** struct epoll_event { u32 events; u64 data; }, packed on x86-64; linux/eventpoll.h. */
export function epollEvent(
  { epollEventBytes }: Pick<Libc, "epollEventBytes">,
  events: number,
  data: bigint,
): Uint8Array {
  const bytes = new Uint8Array(epollEventBytes);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, events, true);
  view.setBigUint64(epollEventBytes - 8, data, true);
  return bytes;
}

/** A registration that was ended: what makes it again. */
export interface Unregistered {
  readonly epoll: number;
  readonly event: Uint8Array;
}

/**
 * Ends a registration, if one epoll instance has it. Of two descriptors of one instance the second
 * finds nothing any more: two that succeed are two instances.
 */
export function unregister(
  libc: Libc,
  { epolls, events, data }: Registration,
  fd: number,
): Unregistered | Refusal {
  const event = epollEvent(libc, events, data);
  const left = epolls.filter((epoll) => libc.epoll_ctl(epoll, EPOLL_CTL_DEL, fd, event) === 0);
  const [epoll] = left;
  if (epoll !== undefined && left.length === 1) return { epoll, event };
  for (const each of left) libc.epoll_ctl(each, EPOLL_CTL_ADD, fd, event);
  return `descriptor ${fd} is registered in ${left.length} epoll instances`;
}

/**
 * How a descriptor is polled, if that is certain: one registration, of the file that it has now.
 */
export function findRegistration(libc: Libc, scan: Polled, fd: number): Registration | Refusal {
  const inode = socketInode(libc, fd);
  const found = scan.registrations(fd).filter((registration) => registration.inode === inode);
  const [registration] = found;
  if (inode === undefined || registration === undefined) {
    return `descriptor ${fd} is not polled as the scan found it`;
  }
  return found.length === 1 ? registration : `descriptor ${fd} is polled in ${found.length} ways`;
}

/**
 * Puts another file below a descriptor. `by` stays open; it must be a socket of the same kind, and
 * gets the same O_NONBLOCK. The descriptor is closed on exec from then on.
 *
 * A scan knows a descriptor until it is replaced: the registration names the inode of its file, and
 * one of another file is refused.
 *
 * @param isReading Whether the runtime hears of what comes; see `readAgain`.
 * @returns Why that was not done: the descriptor is as it was.
 */
export function replaceFile(
  libc: Libc,
  scan: Polled,
  fd: number,
  by: number,
  isReading = true,
): Refusal | undefined {
  const registration = findRegistration(libc, scan, fd);
  if (typeof registration === "string") return registration;
  const original = duplicate(libc, fd);
  if (original < 0) return "this process has no file descriptors left";
  try {
    return exchange(libc, registration, fd, by, original, isReading);
  } finally {
    libc.close(original);
  }
}

function exchange(
  libc: Libc,
  registration: Registration,
  fd: number,
  by: number,
  original: number,
  isReading: boolean,
): Refusal | undefined {
  if (!copyNonBlocking(libc, fd, by)) return `the flags of descriptor ${by} cannot be set`;
  // Before dup3: the old file may live on elsewhere, and a registration that outlives its
  // descriptor reports events for ever (epoll(7), questions and answers, 6).
  const ended = unregister(libc, registration, fd);
  if (typeof ended === "string") return ended;
  const add = (event = ended.event) => libc.epoll_ctl(ended.epoll, EPOLL_CTL_ADD, fd, event) === 0;
  const silent = epollEvent(libc, registration.events & ~EPOLLIN, registration.data);
  if (libc.dup3(by, fd, SOCK_CLOEXEC) !== fd) {
    add();
    return `descriptor ${fd} cannot be replaced`;
  }
  if (add(isReading ? ended.event : silent)) return undefined;
  libc.dup3(original, fd, SOCK_CLOEXEC);
  add();
  // The limit of watches, no memory: epoll_ctl(2).
  return `the kernel does not let the new file of descriptor ${fd} be polled`;
}

/**
 * O_NONBLOCK belongs to the open file, which processes share: a runtime that has a blocking one
 * would stand still in accept(2).
 */
function copyNonBlocking(libc: Libc, from: number, to: number): boolean {
  const [wanted, flags] = [libc.fcntl(from, F_GETFL, 0), libc.fcntl(to, F_GETFL, 0)];
  if (wanted < 0 || flags < 0) return false;
  if ((wanted & O_NONBLOCK) === 0 || (flags & O_NONBLOCK) !== 0) return true;
  return libc.fcntl(to, F_SETFL, flags | O_NONBLOCK) === 0;
}

/**
 * Puts another file below a further descriptor of a socket, which nobody polls.
 *
 * @param inode The socket that is to be there.
 */
export function replaceUnpolled(
  libc: Libc,
  scan: Polled,
  fd: number,
  inode: number,
  by: number,
): Refusal | undefined {
  if (socketInode(libc, fd) !== inode) return `descriptor ${fd} has another file by now`;
  if (scan.registrations(fd).some((registration) => registration.inode === inode)) {
    return `descriptor ${fd} is polled`;
  }
  return libc.dup3(by, fd, SOCK_CLOEXEC) === fd ? undefined : `descriptor ${fd} cannot be replaced`;
}

/** Puts a socket below a descriptor, and closes `by`, also where that is refused. */
export function putBelow(
  libc: Libc,
  scan: Polled,
  fd: number,
  by: number,
  isReading = true,
): Refusal | undefined {
  try {
    return replaceFile(libc, scan, fd, by, isReading);
  } finally {
    libc.close(by);
  }
}

/** A listening socket that was taken out of a running server. */
export interface TakenListener {
  /** The descriptor that the server has, and keeps. */
  readonly fd: number;
  /** The descriptor of the socket. Whoever has it closes it. */
  readonly real: number;
  /** The inode of what is below the server instead. */
  readonly substitute: number;
}

/**
 * Takes a listening socket out of its server, which finds one instead to which nobody can connect,
 * and which it may close as its own. What connects meanwhile waits in the socket. Bun 1.4 asks the
 * kernel for `server.port`, which is 0 meanwhile; Deno 2.9 does not for `server.addr`. Both remove
 * the path of a unix socket that they have bound, when the server stops, whoever listens there by
 * then.
 *
 * @param dummy What the server finds instead. It is closed.
 */
export function takeListener(
  libc: Libc,
  scan: Polled,
  fd: number,
  dummy: number | undefined = listenForNobody(libc),
): TakenListener | Refusal {
  if (dummy === undefined) return "no socket can be made";
  const taken = take(libc, scan, fd, dummy);
  const substitute = socketInode(libc, dummy);
  libc.close(dummy);
  return typeof taken === "string" ? taken : { fd, real: taken, substitute: substitute ?? 0 };
}

/**
 * Gives a listening socket back to the server that it was taken from. What waits in it is accepted.
 * `real` is closed, unless that is refused: the server may have closed its descriptor meanwhile.
 *
 * @param scan A new one: the descriptor was replaced.
 */
export function giveBack(
  libc: Libc,
  scan: Polled,
  { fd, real, substitute }: TakenListener,
): Refusal | undefined {
  if (socketInode(libc, fd) !== substitute) return `the server has closed descriptor ${fd}`;
  const refusal = replaceFile(libc, scan, fd, real);
  if (refusal === undefined) libc.close(real);
  return refusal;
}

/**
 * Takes a connection out of its server, which finds one instead that its client has closed.
 *
 * @returns The descriptor of the connection.
 */
export function takeConnection(libc: Libc, scan: Polled, fd: number): number | Refusal {
  const pair = createPair(libc, SOCK_STREAM);
  if (pair === undefined) return "no socket can be made";
  const [dummy, far] = pair;
  libc.close(far);
  const taken = take(libc, scan, fd, dummy);
  libc.close(dummy);
  return taken;
}

/** Puts another file below a descriptor, and returns a new descriptor of the one that was there. */
function take(libc: Libc, scan: Polled, fd: number, dummy: number): number | Refusal {
  const real = duplicate(libc, fd);
  if (real < 0) return "this process has no file descriptors left";
  const refusal = replaceFile(libc, scan, fd, dummy);
  if (refusal === undefined) return real;
  libc.close(real);
  return refusal;
}
