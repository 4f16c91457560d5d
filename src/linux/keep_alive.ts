import type { Libc } from "../core/socket_adapter.ts";
import { IPPROTO_TCP, SOL_SOCKET } from "./constants.ts";
import { setOption } from "./socket_options.ts";

/** sys/socket.h, netinet/tcp.h */
const SO_KEEPALIVE = 9;
const TCP_KEEPIDLE = 4;
const TCP_KEEPINTVL = 5;
const TCP_KEEPCNT = 6;

/** Has the kernel ask for a client that says nothing for half a minute, and end the connection half a minute later; tcp(7). */
export function keepAlive(libc: Libc, fd: number): void {
  setOption(libc, fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  setOption(libc, fd, IPPROTO_TCP, TCP_KEEPIDLE, 30);
  setOption(libc, fd, IPPROTO_TCP, TCP_KEEPINTVL, 10);
  setOption(libc, fd, IPPROTO_TCP, TCP_KEEPCNT, 3);
}
