/** Constants of the C library that several modules need; sys/socket.h, netinet/in.h. */

export const AF_UNIX = 1;
export const AF_INET = 2;
export const AF_INET6 = 10;

export const SOCK_STREAM = 1;
/** Also O_CLOEXEC. */
export const SOCK_CLOEXEC = 0o2000000;

export const IPPROTO_TCP = 6;

export const SOL_SOCKET = 1;
export const SO_REUSEPORT = 15;
