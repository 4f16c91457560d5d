/**
 * The listening sockets of this process on Linux, and which of those that share an address gets the next connection. See
 * socket(7), SO_REUSEPORT and SO_ATTACH_REUSEPORT_CBPF, and net/core/sock_reuseport.c: the sockets of a group have the order in
 * which they began to listen; when one leaves, the last takes its place.
 */
import { isBeyondListeners, parseEndpoint } from "../core/endpoint.ts";
import type { Libc } from "../core/socket_adapter.ts";

/** A TCP socket of this process that listens. */
export interface OwnListener {
  readonly fd: number;
  /** Its address: the same for all sockets that share it. */
  readonly key: string;
  /** Its address for people. */
  readonly name: string;
  readonly port: number;
  readonly reusePort: boolean;
}

export const SOL_SOCKET = 1;
export const SO_REUSEPORT = 15;
const SO_ACCEPTCONN = 30;
const SO_ATTACH_REUSEPORT_CBPF = 51;
const SO_DETACH_REUSEPORT_BPF = 68;
const IPPROTO_TCP = 6;
const TCP_INFO = 11;
const AF_UNIX = 1;
export const AF_INET = 2;
const AF_INET6 = 10;
const AF_NETLINK = 16;
const NETLINK_SOCK_DIAG = 4;
const SOCK_DIAG_BY_FAMILY = 20;
const NLM_F_REQUEST = 1;
const NLM_F_DUMP = 0x300;
const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const TCP_LISTEN = 10;
export const SOCK_STREAM = 1;
const SOCK_RAW = 3;
const NONBLOCK = 0o4000;
const CLOEXEC = 0o2000000;

/** How much of a file in /proc is read at once: the kernel makes up what is read, and the rest of a long table is not wanted. */
const BLOCK = 2 ** 12;
/** Room for what the kernel answers at once; netlink(7) says 8 KiB at least. */
const ANSWER = 2 ** 15;
/** The state of a listening socket in /proc/net/tcp. */
const LISTENING = "0A";

const text = new TextDecoder();

// For a call each, and there are as many calls as descriptors.
const value = new Int32Array(1);
const valueBytes = new Uint8Array(value.buffer);
const length = new Uint32Array(1);
const lengthBytes = new Uint8Array(length.buffer);

function option(libc: Libc, fd: number, name: number): number | undefined {
  length[0] = 4;
  return libc.getsockopt(fd, SOL_SOCKET, name, valueBytes, lengthBytes) === 0 ? value[0] : undefined;
}

/** Reads a file of /proc from its beginning, until `enough` says so. */
function readProc(libc: Libc, path: string, enough: (read: string) => boolean): string {
  const fd = libc.open(new TextEncoder().encode(`${path}\0`), CLOEXEC);
  if (fd < 0) return "";
  try {
    const block = new Uint8Array(BLOCK);
    let read = "";
    for (;;) {
      const count = libc.read(fd, block, BLOCK);
      if (count <= 0) return read;
      read += text.decode(block.subarray(0, count));
      if (enough(read)) return read;
    }
  } finally {
    libc.close(fd);
  }
}

/** Names an address: the same for all sockets that share it. */
function keyOf(address: Uint8Array, port: number): string {
  return `${[...address].map((byte) => byte.toString(16).padStart(2, "0")).join("")}:${port}`;
}

/** A struct sockaddr_in or sockaddr_in6, as a key and as people write it. */
export function readSocketAddress(bytes: Uint8Array): { key: string; name: string; port: number } | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const family = new Uint16Array(bytes.slice(0, 2).buffer)[0];
  if (family !== AF_INET && family !== AF_INET6) return undefined;
  const port = view.getUint16(2);
  const address = family === AF_INET ? bytes.slice(4, 8) : bytes.slice(8, 24);
  const name = family === AF_INET ? address.join(".") : `[${colons(address)}]`;
  return { key: keyOf(address, port), name: `${name}:${port}`, port };
}

/** RFC 5952, but that only the all-zero address is shortened. */
function colons(address: Uint8Array): string {
  if (address.every((byte) => byte === 0)) return "::";
  const view = new DataView(address.buffer);
  return Array.from({ length: 8 }, (_, i) => view.getUint16(2 * i).toString(16)).join(":");
}

/** All descriptors that there can be, for a process that may not look. */
function allDescriptors(libc: Libc): number[] {
  const size = /^FDSize:\s*(\d+)/m.exec(readProc(libc, "/proc/self/status", (read) => read.includes("\nFDSize:\t")));
  return Array.from({ length: Number(size?.[1] ?? 1024) }, (_, fd) => fd);
}

/** All TCP sockets of this process that listen, whichever thread or library opened them. */
export function ownListeners(libc: Libc, descriptors: readonly number[] = allDescriptors(libc)): OwnListener[] {
  const found: OwnListener[] = [];
  for (const fd of descriptors) {
    if (option(libc, fd, SO_ACCEPTCONN) !== 1) continue;
    const address = new Uint8Array(128);
    const length = new Uint8Array(new Uint32Array([address.length]).buffer);
    const named = libc.getsockname(fd, address, length) === 0 ? readSocketAddress(address) : undefined;
    if (named !== undefined) found.push({ fd, ...named, reusePort: option(libc, fd, SO_REUSEPORT) === 1 });
  }
  return found;
}

/** How many sockets, of all processes here, listen on each address. */
export function countListeners(libc: Libc): Map<string, number> {
  const counts = new Map<string, number>();
  const count = (key: string) => counts.set(key, (counts.get(key) ?? 0) + 1);
  for (const [family, table] of [[AF_INET, "tcp"], [AF_INET6, "tcp6"]] as const) {
    for (const key of askKernel(libc, family) ?? readTable(libc, table)) count(key);
  }
  return counts;
}

/**
 * The addresses of all listening sockets of a family, by sock_diag(7), which looks at no others; `undefined` where the kernel does not
 * know it.
 */
function askKernel(libc: Libc, family: number): string[] | undefined {
  const fd = libc.socket(AF_NETLINK, SOCK_RAW | CLOEXEC, NETLINK_SOCK_DIAG);
  if (fd < 0) return undefined;
  try {
    // struct nlmsghdr { u32 len; u16 type; u16 flags; u32 seq; u32 pid; }, struct inet_diag_req_v2 { u8 family; u8 protocol; u8 ext;
    // u8 pad; u32 states; struct inet_diag_sockid id; }
    const request = new Uint8Array(72);
    const words = new Uint32Array(request.buffer);
    words[0] = request.length;
    new Uint16Array(request.buffer).set([SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP], 2);
    request.set([family, IPPROTO_TCP], 16);
    words[5] = 1 << TCP_LISTEN;
    if (libc.write(fd, request, request.length) !== request.length) return undefined;

    const keys: string[] = [];
    const answer = new Uint8Array(ANSWER);
    const view = new DataView(answer.buffer);
    const numbers = new Uint32Array(answer.buffer);
    const types = new Uint16Array(answer.buffer);
    for (;;) {
      const received = libc.read(fd, answer, answer.length);
      if (received <= 0) return undefined;
      for (let at = 0; at + 16 <= received;) {
        const length = numbers[at / 4] as number;
        const type = types[at / 2 + 2];
        if (type === NLMSG_DONE) return keys;
        if (type === NLMSG_ERROR || length < 16) return undefined;
        // struct inet_diag_msg { u8 family, state, timer, retrans; struct inet_diag_sockid { be16 sport, dport; be32 src[4] ...
        keys.push(keyOf(answer.slice(at + 24, at + 24 + (family === AF_INET ? 4 : 16)), view.getUint16(at + 20)));
        at += (length + 3) & ~3;
      }
    }
  } finally {
    libc.close(fd);
  }
}

/** The same by /proc/net/tcp. */
function readTable(libc: Libc, table: string): string[] {
  return readProc(libc, `/proc/net/${table}`, isBeyondListeners).split("\n").flatMap((line) => {
    const [, local = "", , state] = line.trim().split(/\s+/);
    if (state !== LISTENING) return [];
    const { bytes, port } = parseEndpoint(local);
    return [keyOf(bytes, port)];
  });
}

/** The instructions that choose one of `count` sockets from `first` on at random; linux/filter.h, linux/bpf_common.h. */
export function program(first: number, count: number): [code: number, k: number][] {
  if (count === 1) return [[0x06, first]]; // ret #first
  return [
    [0x20, 0xfffff038], // ld #rand
    [0x94, count], // mod #count
    [0x04, first], // add #first
    [0x16, 0], // ret a
  ];
}

/**
 * Lets the sockets `first` to `first + count - 1` of a group have all new connections, from this moment on. Where that is more
 * than there are, the kernel chooses among all.
 *
 * @param fd Any socket of the group.
 * @returns Whether the kernel took it.
 */
export function steer(libc: Libc, fd: number, first: number, count: number): boolean {
  const instructions = program(first, count);
  // struct sock_filter { u16 code; u8 jt; u8 jf; u32 k; }; struct sock_fprog { u16 len; struct sock_filter *filter; }
  const filter = new Uint8Array(8 * instructions.length);
  instructions.forEach(([code, k], i) => {
    new Uint16Array(filter.buffer, 8 * i, 1)[0] = code;
    new Uint32Array(filter.buffer, 8 * i + 4, 1)[0] = k;
  });
  const fprog = new Uint8Array(16);
  new Uint16Array(fprog.buffer, 0, 1)[0] = instructions.length;
  new BigUint64Array(fprog.buffer, 8, 1)[0] = libc.addressOf(filter);
  return libc.setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, fprog, fprog.length) === 0;
}

/** Lets all sockets of a group have new connections again. */
export function unsteer(libc: Libc, fd: number): void {
  libc.setsockopt(fd, SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, new Uint8Array(4), 4);
}

/** Are there connections that the server has not accepted yet? struct tcp_info, tcpi_unacked; tcp(7). */
export function hasWaiting(libc: Libc, fd: number): boolean {
  const info = new Uint8Array(104);
  const length = new Uint8Array(new Uint32Array([info.length]).buffer);
  return libc.getsockopt(fd, IPPROTO_TCP, TCP_INFO, info, length) === 0 && new Uint32Array(info.buffer)[6] !== 0;
}

/**
 * Takes a listening socket away from the server that has it, without the server's help: its number leads to a socket that nobody
 * can connect to from then on, until the server closes it.
 */
export function takeAway(libc: Libc, fd: number): boolean {
  const dummy = libc.socket(AF_UNIX, SOCK_STREAM | NONBLOCK | CLOEXEC, 0);
  if (dummy < 0) return false;
  // Given a name by the kernel; and listening, so that a look at it finds nothing rather than an error. unix(7), autobind.
  const family = new Uint8Array(new Uint16Array([AF_UNIX]).buffer);
  const ok = libc.bind(dummy, family, family.length) === 0 && libc.listen(dummy, 0) === 0 &&
    libc.dup3(dummy, fd, CLOEXEC) === fd;
  libc.close(dummy);
  return ok;
}
