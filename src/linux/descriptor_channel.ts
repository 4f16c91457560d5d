/**
 * Passing descriptors to another process: unix(7), SCM_RIGHTS, over a pair of sockets of which the
 * other process has inherited one.
 *
 * The pair keeps the bounds of messages (SOCK_SEQPACKET), so that one is received whole or not at
 * all. Nobody polls: the sender announces each message on another channel, and it is
 * there by then.
 */
import type { Libc } from "../core/socket_adapter.ts";
import { F_SETFD, FD_CLOEXEC } from "./constants.ts";
import {
  headerLength,
  messageHeader,
  MSG_DONTWAIT,
  readControl,
  rightsFor,
} from "./control_messages.ts";
import { socketInode } from "./proc_files.ts";
import { poll } from "./poll.ts";

/** The most descriptors in one message. The kernel takes 253: SCM_MAX_FD. */
export const MOST_DESCRIPTORS = 100;

/** What became of a message. */
export type Sent =
  | "sent"
  /**
   * Not now: too much is on its way. The receiver has to take something first. Or the user has more
   * descriptors on their way than it may have open (ETOOMANYREFS).
   */
  | "full"
  /** Nobody has the other end. */
  | "closed";

/** What was received. */
export type Received =
  | { readonly kind: "descriptors"; readonly tag: number; readonly fds: readonly number[] }
  /** Nothing is there yet. */
  | { readonly kind: "none" }
  /** Nobody has the other end, and nothing is left. */
  | { readonly kind: "closed" }
  /**
   * What came is not what was sent: above all when this process has no descriptors left. All that
   * came is closed.
   */
  | { readonly kind: "invalid"; readonly why: string };

const MSG_NOSIGNAL = 0x4000;
const MSG_CMSG_CLOEXEC = 0x40000000;
/** POLLERR, POLLHUP, POLLNVAL. */
const POLL_GONE = 8 | 16 | 32;
/** The bytes of a message: the tag, and the number of descriptors. */
const DATA_BYTES = 8;
/** Room for more descriptors than the kernel lets anybody send. */
const CONTROL_BYTES = 1040;

/** Whether nobody has the other end. */
function isGone(libc: Libc, socket: number): boolean {
  return (poll(libc, socket, 0) & POLL_GONE) !== 0;
}

/**
 * Sends descriptors. They stay open here too.
 *
 * @param fds At most MOST_DESCRIPTORS, and at least one.
 * @param tag A number of 32 bits by which the receiver knows them.
 */
export function sendDescriptors(
  libc: Libc,
  socket: number,
  fds: readonly number[],
  tag: number,
): Sent {
  if (fds.length === 0 || fds.length > MOST_DESCRIPTORS) {
    throw new RangeError(`${fds.length} descriptors in a message`);
  }
  const data = new Uint32Array([tag, fds.length]);
  const message = messageHeader(libc, new Uint8Array(data.buffer), rightsFor(fds));
  if (libc.sendmsg(socket, message.bytes, MSG_DONTWAIT | MSG_NOSIGNAL) === DATA_BYTES) {
    return "sent";
  }
  return isGone(libc, socket) ? "closed" : "full";
}

/**
 * Receives the descriptors of one message, without waiting. No process that this one starts
 * inherits them.
 */
export function receiveDescriptors(libc: Libc, socket: number): Received {
  const data = new Uint8Array(DATA_BYTES);
  const control = new Uint8Array(CONTROL_BYTES);
  const message = messageHeader(libc, data, control);
  const receive = () => libc.recvmsg(socket, message.bytes, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  let count = receive();
  if (count < 0) {
    if (!isGone(libc, socket)) return { kind: "none" };
    // The first call fails with ECONNRESET where the other process has left something unread; what
    // it has sent comes afterwards.
    count = receive();
    if (count < 0) return { kind: "closed" };
  }
  const { length, isTruncated } = headerLength(message.bytes);
  const { fds, isClean } = readControl(control.subarray(0, length));
  if (count === 0 && fds.length === 0) return { kind: "closed" };
  const [tag, sent] = new Uint32Array(data.buffer);
  const why = isTruncated
    ? "a part is missing: the limit of open files, perhaps"
    : !isClean || count !== DATA_BYTES
    ? "it is not a message of this library"
    : sent !== fds.length
    ? `${fds.length} of ${sent} descriptors came`
    : undefined;
  if (why === undefined) return { kind: "descriptors", tag: tag as number, fds };
  for (const fd of fds) libc.close(fd);
  return { kind: "invalid", why };
}

/**
 * Closes a socket and all descriptors that wait in it. For the end of the other process, of which
 * this one keeps a descriptor: what waits there would stay open as long as any process has that
 * end, and a shell between the two may.
 */
export function discardEnd(libc: Libc, socket: number): void {
  for (;;) {
    const received = receiveDescriptors(libc, socket);
    if (received.kind === "none" || received.kind === "closed") break;
    if (received.kind === "descriptors") { for (const fd of received.fds) libc.close(fd); }
  }
  libc.close(socket);
}

/**
 * How a new process finds its end of a pair: the value of a variable in its environment.
 *
 * @param fd The end, in this process.
 * @param inherited Its number in the new process.
 */
export function describeEnd(libc: Libc, fd: number, inherited: number): string {
  return `${inherited}:${socketInode(libc, fd)}`;
}

/**
 * The end of a pair that this process has inherited. The inode proves that it is the one: what
 * started this process may have closed all descriptors but the first three (sudo does), and another
 * file may have the number.
 */
export function inheritedEnd(libc: Libc, description: string): number | undefined {
  const match = /^(\d{1,7}):(\d{1,15})$/.exec(description);
  const fd = Number(match?.[1]);
  if (match === null || socketInode(libc, fd) !== Number(match[2])) return undefined;
  libc.fcntl(fd, F_SETFD, FD_CLOEXEC); // What this process starts must not have it.
  return fd;
}
