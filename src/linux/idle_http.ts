/**
 * Taking connections of HTTP/1 that wait for a request out of a server: their clients notice
 * nothing.
 */
import { chunk } from "../core/chunk.ts";
import type { Libc, Polled } from "../core/socket_adapter.ts";
import { F_GETFD, SOCK_SEQPACKET } from "./constants.ts";
import { messageHeader, MSG_DONTWAIT, MSG_PEEK } from "./control_messages.ts";
import {
  discardEnd,
  MOST_DESCRIPTORS,
  receiveDescriptors,
  sendDescriptors,
} from "./descriptor_channel.ts";
import { createPair } from "./places.ts";
import { setReading } from "./polling.ts";
import { readDescriptor } from "./proc_files.ts";
import { readTcp, type TcpState } from "./tcp.ts";
import { duplicate, takeConnection } from "./transplant.ts";

/** RFC 9110, section 9.1: the methods, which proxies and browsers write in capitals. */
const METHOD = /^[A-Z]{3,7} [/*h]/;
const peeked = new Uint8Array(9);

/** How long an answer of HTTP/1 is at least, in bytes, with its date. */
const SHORTEST_ANSWER = 60;
/**
 * How often a connection is looked at: an answer that is there already is written in the next turn
 * of the event loop.
 */
const LOOKS = 5;

/** Whether what waits in a connection begins as a request does. */
function isRequest(libc: Libc, fd: number): boolean {
  const message = messageHeader(libc, peeked, new Uint8Array(8));
  const count = libc.recvmsg(fd, message.bytes, MSG_PEEK | MSG_DONTWAIT);
  return METHOD.test(String.fromCharCode(...peeked.subarray(0, Math.max(0, count))));
}

function isAtRest(libc: Libc, fd: number, before: TcpState, now: TcpState): boolean {
  if (now.read !== before.read || now.written !== before.written || now.unsent > 0) return false;
  if (now.unread > 0) return isRequest(libc, fd);
  if (now.written === 0) return now.read === 0;
  if (now.written < SHORTEST_ANSWER) return false; // The settings of HTTP/2, before any request.
  // The kernel's clock has steps, and a request is often answered within one.
  return now.sinceReceived >= now.sinceSent;
}

/**
 * Takes those that a server closes. Copies of all wait in a socket meanwhile, where they do not
 * count among the descriptors of this process: it may have half of its limit in use.
 *
 * @param fds The descriptors of all its connections, at this moment.
 * @param closeIdle Closes those that wait for a request. The call closes their descriptors, and
 * does nothing else to the connections.
 * @returns New descriptors of those.
 */
export function takeClosed(libc: Libc, fds: readonly number[], closeIdle: () => void): number[] {
  const pair = createPair(libc, SOCK_SEQPACKET);
  if (pair === undefined) return [];
  const [near, far] = pair;
  const parts = chunk(fds, MOST_DESCRIPTORS);
  // So that one part can be received, whatever is closed.
  const spare = (parts[0] ?? []).map((fd) => duplicate(libc, fd));
  // Where there is no room for all, none moves: one without a copy would be closed.
  const isComplete = spare.every((fd) => fd >= 0) &&
    parts.every((part, i) => sendDescriptors(libc, near, part, i) === "sent");
  for (const fd of spare) if (fd >= 0) libc.close(fd);
  if (isComplete && parts.length > 0) closeIdle();
  // The copy may have got the number that was closed.
  const isClosed = (fd: number, copy: number) =>
    fd === copy || libc.fcntl(fd, F_GETFD, 0) < 0 ||
    readDescriptor(libc, fd) !== readDescriptor(libc, copy);
  const taken = isComplete
    ? parts.flatMap((part) => {
      const received = receiveDescriptors(libc, far);
      const copies = received.kind === "descriptors" ? received.fds : [];
      return copies.filter((copy, i) => {
        if (isClosed(part[i] as number, copy)) return true;
        libc.close(copy);
        return false;
      });
    })
    : [];
  libc.close(near);
  discardEnd(libc, far);
  return taken;
}

/**
 * Takes those that are at rest, where the runtime does not say which are. It hears nothing of them
 * for a moment. One is at rest when nothing is read and written in that time, all that was written
 * has left this machine, and nothing has come since, except what begins as a request does.
 *
 * @param look Says which are in use since the call before, as far as the handlers know it.
 * @param turn Resolves in a later turn of the event loop.
 * @returns New descriptors of those.
 */
export async function takeAtRest(
  libc: Libc,
  scan: Polled,
  fds: readonly number[],
  look: () => (fd: number) => boolean,
  turn: () => Promise<void>,
): Promise<number[]> {
  look();
  const stopped = fds.filter((fd) => setReading(libc, scan, fd, false));
  const taken: number[] = [];
  try {
    let waiting = stopped.map((fd) => ({ fd, state: readTcp(libc, fd) }));
    for (let i = 0; i < LOOKS && waiting.length > 0; i++) {
      await turn();
      await turn();
      const isBusy = look();
      waiting = waiting.flatMap(({ fd, state }) => {
        const now = readTcp(libc, fd);
        if (state === undefined || now === undefined) return [];
        if (isBusy(fd) || !isAtRest(libc, fd, state, now)) return [{ fd, state: now }];
        const connection = takeConnection(libc, scan, fd);
        if (typeof connection === "number") taken.push(connection);
        return [];
      });
    }
  } finally {
    for (const fd of stopped) setReading(libc, scan, fd, true);
  }
  return taken;
}
