/** The structures of sendmsg(2) and recvmsg(2) on 64-bit Linux, and of cmsg(3). */
import type { Libc } from "../core/socket_adapter.ts";
import { SOL_SOCKET } from "./constants.ts";

/** Flags of recvmsg(2). */
export const MSG_PEEK = 2;
export const MSG_DONTWAIT = 0x40;

const SCM_RIGHTS = 1;
const MSG_CTRUNC = 8;
const MSG_TRUNC = 0x20;
/** struct cmsghdr { size_t len; int level; int type; } */
const CMSG_HEADER_BYTES = 16;
/**
 * struct msghdr { void *name; u32 namelen; void *iov; size_t iovlen; void *control; size_t
 * controllen; int flags; }
 */
const MSGHDR_BYTES = 56;
const CONTROLLEN_AT = 40;
const FLAGS_AT = 48;

const align = (bytes: number) => (bytes + 7) & ~7;

/** A control message with descriptors. */
export function rightsFor(fds: readonly number[]): Uint8Array {
  const length = CMSG_HEADER_BYTES + 4 * fds.length;
  const bytes = new Uint8Array(align(length));
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, BigInt(length), true);
  view.setInt32(8, SOL_SOCKET, true);
  view.setInt32(12, SCM_RIGHTS, true);
  fds.forEach((fd, i) => view.setInt32(CMSG_HEADER_BYTES + 4 * i, fd, true));
  return bytes;
}

/** A struct msghdr. Whoever keeps it keeps all the memory that it points to. */
export interface MessageHeader {
  readonly bytes: Uint8Array;
  readonly parts: readonly Uint8Array[];
}

/** A header for one piece of data and a buffer of control messages. */
export function messageHeader(
  libc: Pick<Libc, "addressOf">,
  data: Uint8Array,
  control: Uint8Array,
): MessageHeader {
  const vector = new Uint8Array(
    new BigUint64Array([libc.addressOf(data), BigInt(data.length)]).buffer,
  );
  const words = new BigUint64Array(MSGHDR_BYTES / 8);
  words.set([
    0n,
    0n,
    libc.addressOf(vector),
    1n,
    libc.addressOf(control),
    BigInt(control.length),
    0n,
  ]);
  return { bytes: new Uint8Array(words.buffer), parts: [vector, data, control] };
}

/**
 * What recvmsg(2) has written to a header: the bytes of control messages, and whether a part did
 * not fit.
 */
export function headerLength(bytes: Uint8Array): { length: number; isTruncated: boolean } {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const flags = view.getInt32(FLAGS_AT, true);
  return {
    length: Number(view.getBigUint64(CONTROLLEN_AT, true)),
    isTruncated: (flags & (MSG_CTRUNC | MSG_TRUNC)) !== 0,
  };
}

/**
 * The descriptors in the control messages that came: all, because each is open in this process.
 *
 * @returns Also whether there was one control message with them, and nothing else.
 */
export function readControl(control: Uint8Array): { fds: number[]; isClean: boolean } {
  const view = new DataView(control.buffer, control.byteOffset, control.byteLength);
  const fds: number[] = [];
  let messages = 0;
  let isClean = true;
  let at = 0;
  while (at + CMSG_HEADER_BYTES <= control.length) {
    const length = Number(view.getBigUint64(at, true));
    if (length < CMSG_HEADER_BYTES || at + length > control.length) break;
    messages++;
    const isRights = view.getInt32(at + 8, true) === SOL_SOCKET &&
      view.getInt32(at + 12, true) === SCM_RIGHTS;
    if (!isRights || (length - CMSG_HEADER_BYTES) % 4 !== 0) isClean = false;
    for (let i = at + CMSG_HEADER_BYTES; isRights && i + 4 <= at + length; i += 4) {
      const fd = view.getInt32(i, true);
      if (fd >= 0) fds.push(fd);
      else isClean = false;
    }
    at += align(length);
  }
  return { fds, isClean: isClean && messages === 1 && at >= control.length };
}
