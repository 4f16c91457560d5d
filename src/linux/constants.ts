/** Constants of the C library that several modules need; sys/socket.h, netinet/in.h. */

export const AF_UNIX = 1;
export const AF_INET = 2;
export const AF_INET6 = 10;

export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
export const SOCK_SEQPACKET = 5;
/** Also O_CLOEXEC. */
export const SOCK_CLOEXEC = 0o2000000;

export const IPPROTO_TCP = 6;

export const SOL_SOCKET = 1;
export const SO_TYPE = 3;
export const SO_ACCEPTCONN = 30;
export const SO_REUSEADDR = 2;
export const SO_REUSEPORT = 15;

export const SOCK_NONBLOCK = 0o4000;
/** fcntl.h: the status flag that SOCK_NONBLOCK sets. */
export const O_NONBLOCK: number = SOCK_NONBLOCK;

/** fcntl.h: the commands of fcntl(2). */
export const F_GETFD = 1;
export const F_SETFD = 2;
export const F_GETFL = 3;
export const F_SETFL = 4;
export const F_DUPFD_CLOEXEC = 1030;
export const FD_CLOEXEC = 1;

/** sys/epoll.h */
export const EPOLL_CTL_ADD = 1;
export const EPOLL_CTL_DEL = 2;
export const EPOLL_CTL_MOD = 3;
export const EPOLLIN = 1;
