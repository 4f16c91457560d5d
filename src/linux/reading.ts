/** Having a runtime hear nothing of a connection for a while: what comes waits in the socket. */
import type { Libc, Polled } from "../core/socket_adapter.ts";
import { EPOLL_CTL_MOD, EPOLLIN } from "./constants.ts";
import { epollEvent, findRegistration } from "./transplant.ts";

/** Lets the runtime hear of what comes on a connection, or not. Returns whether that was possible. */
export function setReading(libc: Libc, scan: Polled, fd: number, isReading: boolean): boolean {
  const registration = findRegistration(libc, scan, fd);
  if (typeof registration === "string" || (registration.events & EPOLLIN) === 0) return false;
  const event = epollEvent(libc, isReading ? registration.events : registration.events & ~EPOLLIN, registration.data);
  // Of two descriptors of one instance the second succeeds as well.
  return registration.epolls.map((epoll) => libc.epoll_ctl(epoll, EPOLL_CTL_MOD, fd, event) === 0).some(Boolean);
}
