/** Unix sockets that are made without a runtime. */
import type { Libc } from "../core/socket_adapter.ts";
import { AF_UNIX, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_STREAM } from "./constants.ts";

/**
 * A socket that listens, and to which nobody can connect: to be put below a server. `undefined`
 * where none can be made.
 */
export function listenForNobody(libc: Libc): number | undefined {
  const fd = libc.socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return undefined;
  // The kernel names it (unix(7), autobind). It listens, so that accept(2) finds no connection
  // rather than an error.
  const family = new Uint8Array(new Uint16Array([AF_UNIX]).buffer);
  if (libc.bind(fd, family, family.length) === 0 && libc.listen(fd, 0) === 0) return fd;
  libc.close(fd);
  return undefined;
}

/** Whether a process accepts connections on a unix socket. */
export function isServedAt(libc: Libc, path: string): boolean {
  const fd = libc.socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return true;
  const name = new TextEncoder().encode(`${path}\0`);
  const address = new Uint8Array(2 + name.length);
  address.set([AF_UNIX, 0]);
  address.set(name, 2);
  // EAGAIN, a full queue, cannot be told from ECONNREFUSED by the result alone: what is asked after
  // it is whether anybody is there.
  const isThere = libc.connect(fd, address, address.length) === 0;
  libc.close(fd);
  return isThere;
}
