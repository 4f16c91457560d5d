/**
 * What the kernel knows of a TCP connection: struct tcp_info of linux/tcp.h, and what waits in the
 * socket.
 */
import type { Libc } from "../core/socket_adapter.ts";
import { IPPROTO_TCP, SOL_SOCKET } from "./constants.ts";
import { setOption } from "./socket_options.ts";

const TCP_INFO = 11;
const FIONREAD = 0x541b;
/** As far as tcpi_bytes_retrans: Linux 4.19 (2018). */
const INFO_BYTES = 216;

/** A TCP connection at one moment. */
export interface TcpState {
  /** The bytes that this process has read. */
  readonly read: number;
  /** The bytes that have come, and that it has not read yet. */
  readonly unread: number;
  /** The bytes that it has written. */
  readonly written: number;
  /** Of these, the bytes that have not left this machine yet. */
  readonly unsent: number;
  /**
   * Milliseconds since the last bytes came, and since the last ones left, in the steps of the
   * kernel's clock: 1, 4 or 10.
   */
  readonly sinceReceived: number;
  readonly sinceSent: number;
}

const info = new Uint8Array(256);
const view = new DataView(info.buffer);
const length = new Uint32Array(1);
const lengthBytes = new Uint8Array(length.buffer);
const count = new Int32Array(1);
const countBytes = new Uint8Array(count.buffer);

/** The state of a connection; `undefined` for another file, and on an older kernel. */
export function readTcp(libc: Libc, fd: number): TcpState | undefined {
  length[0] = info.length;
  // First: what comes between the two calls counts as read, which is never mistaken for a
  // connection that is at rest.
  if (libc.ioctl(fd, FIONREAD, countBytes) !== 0) return undefined;
  if (
    libc.getsockopt(fd, IPPROTO_TCP, TCP_INFO, info, lengthBytes) !== 0 || length[0] < INFO_BYTES
  ) return undefined;
  const big = (offset: number) => Number(view.getBigUint64(offset, true));
  const unread = count[0] as number;
  const unsent = view.getUint32(144, true);
  return {
    read: big(128) - unread,
    unread,
    written: big(200) - big(208) + unsent,
    unsent,
    sinceReceived: view.getUint32(52, true),
    sinceSent: view.getUint32(44, true),
  };
}

/** sys/socket.h, netinet/tcp.h */
const SO_KEEPALIVE = 9;
const TCP_KEEPIDLE = 4;
const TCP_KEEPINTVL = 5;
const TCP_KEEPCNT = 6;

/**
 * Has the kernel ask for a client that sends nothing for half a minute, and end the connection half
 * a minute later; tcp(7).
 */
export function keepAlive(libc: Libc, fd: number): void {
  setOption(libc, fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  setOption(libc, fd, IPPROTO_TCP, TCP_KEEPIDLE, 30);
  setOption(libc, fd, IPPROTO_TCP, TCP_KEEPINTVL, 10);
  setOption(libc, fd, IPPROTO_TCP, TCP_KEEPCNT, 3);
}
