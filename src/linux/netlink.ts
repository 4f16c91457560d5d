/**
 * Listing sockets with sock_diag(7), which unlike /proc/net/tcp passes over all that do not listen.
 */
import type { Libc } from "../core/socket_adapter.ts";
import { addressKey } from "./addresses.ts";
import { AF_INET, IPPROTO_TCP, SOCK_CLOEXEC } from "./constants.ts";

const AF_NETLINK = 16;
const SOCK_RAW = 3;
const NETLINK_SOCK_DIAG = 4;
const SOCK_DIAG_BY_FAMILY = 20;
const NLM_F_REQUEST = 1;
const NLM_F_DUMP = 0x300;
const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const TCP_LISTEN = 10;
/** The size of struct nlmsghdr. */
const HEADER_BYTES = 16;
/** Where struct inet_diag_msg has the inode. */
const INODE_OFFSET = 68;
/** The kernel fills at least 8 KiB at once; netlink(7). */
const ANSWER_BYTES = 2 ** 15;

/** A listening TCP socket of any process in this network namespace. */
export interface ListedListener {
  /** Its address: the same for all sockets that share it. */
  readonly key: string;
  readonly inode: number;
}

/**
 * All listening TCP sockets of a family, in the order of the kernel's list; `undefined` where the
 * kernel does not allow the question.
 */
export function listListeners(libc: Libc, family: number): ListedListener[] | undefined {
  const fd = libc.socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
  if (fd < 0) return undefined;
  try {
    const request = dumpRequest(family);
    return libc.write(fd, request, request.length) === request.length
      ? readAnswers(libc, fd, family)
      : undefined;
  } finally {
    libc.close(fd);
  }
}

/**
 * struct nlmsghdr { u32 len; u16 type; u16 flags; u32 seq; u32 pid; }, then struct inet_diag_req_v2
 * { u8 family; u8 protocol; u8 ext; u8 pad; u32 states; struct inet_diag_sockid id; }.
 */
function dumpRequest(family: number): Uint8Array {
  const request = new Uint8Array(72);
  const words = new Uint32Array(request.buffer);
  words[0] = request.length;
  new Uint16Array(request.buffer).set([SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP], 2);
  request.set([family, IPPROTO_TCP], HEADER_BYTES);
  words[5] = 1 << TCP_LISTEN;
  return request;
}

/**
 * struct inet_diag_msg { u8 family, state, timer, retrans; struct inet_diag_sockid { be16 sport,
 * dport; be32 src[4], dst[4]; u32 if, cookie[2]; } id; u32 expires, rqueue, wqueue, uid, inode; }
 */
function readAnswers(libc: Libc, fd: number, family: number): ListedListener[] | undefined {
  const listeners: ListedListener[] = [];
  const answer = new Uint8Array(ANSWER_BYTES);
  const view = new DataView(answer.buffer);
  const words = new Uint32Array(answer.buffer);
  const halves = new Uint16Array(answer.buffer);
  const addressBytes = family === AF_INET ? 4 : 16;
  for (;;) {
    const received = libc.read(fd, answer, answer.length);
    if (received <= 0) return undefined;
    for (let at = 0; at + HEADER_BYTES <= received;) {
      const length = words[at / 4] as number;
      const type = halves[at / 2 + 2];
      if (type === NLMSG_DONE) return listeners;
      if (type === NLMSG_ERROR || length < HEADER_BYTES) return undefined;
      listeners.push({
        key: addressKey(answer.slice(at + 24, at + 24 + addressBytes), view.getUint16(at + 20)),
        inode: words[(at + HEADER_BYTES + INODE_OFFSET) / 4] as number,
      });
      at += (length + 3) & ~3;
    }
  }
}
