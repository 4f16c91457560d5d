/**
 * Having a runtime hear nothing of a datagram socket for a while. It keeps the socket, and can
 * send: an answer that is still to come leaves from the right port, which it would not if another
 * socket were below the descriptor.
 *
 * Measured with Bun.udpSocket and node:dgram on Bun 1.4.5, Deno.listenDatagram and node:dgram on
 * Deno 2.9.6: what came meanwhile is delivered afterwards, and closing the socket works at any
 * time.
 */
import type { Libc, Polled, Registration } from "../core/socket_adapter.ts";
import { EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLLIN } from "./constants.ts";
import { socketInode } from "./proc_files.ts";
import {
  epollEvent,
  findRegistration,
  type Refusal,
  unregister,
  type Unregistered,
} from "./transplant.ts";

/** A socket that is not polled for now. */
export interface Unpolled extends Unregistered {
  readonly fd: number;
  readonly inode: number;
}

/** Ends the registration of a descriptor. What comes waits in the socket. */
export function stopPolling(libc: Libc, scan: Polled, fd: number): Unpolled | Refusal {
  const registration = findRegistration(libc, scan, fd);
  if (typeof registration === "string") return registration;
  const ended = unregister(libc, registration, fd);
  return typeof ended === "string" ? ended : { fd, inode: registration.inode, ...ended };
}

/** Polls the descriptor again, unless the runtime has closed it meanwhile. */
export function pollAgain(libc: Libc, { fd, inode, epoll, event }: Unpolled): Refusal | undefined {
  if (socketInode(libc, fd) !== inode) return `the runtime has closed descriptor ${fd}`;
  return libc.epoll_ctl(epoll, EPOLL_CTL_ADD, fd, event) === 0
    ? undefined
    : `descriptor ${fd} cannot be polled again`;
}

/**
 * Lets the runtime hear of what comes on a connection, or not: then it waits in the socket. Returns
 * whether that was possible.
 */
export function setReading(libc: Libc, scan: Polled, fd: number, isReading: boolean): boolean {
  const registration = findRegistration(libc, scan, fd);
  if (typeof registration === "string" || (registration.events & EPOLLIN) === 0) return false;
  const event = epollEvent(
    libc,
    isReading ? registration.events : registration.events & ~EPOLLIN,
    registration.data,
  );
  return modify(libc, registration, fd, event);
}

/** Changes a registration. Of two descriptors of one instance the second succeeds as well. */
function modify(libc: Libc, { epolls }: Registration, fd: number, event: Uint8Array): boolean {
  return epolls.map((epoll) => libc.epoll_ctl(epoll, EPOLL_CTL_MOD, fd, event) === 0).some(Boolean);
}

/**
 * Lets the runtime hear of what comes on a connection that was put below its descriptor in silence,
 * unless the descriptor has another file by now. Returns whether that was possible.
 *
 * @param registration How it is polled, but for what comes.
 */
export function readAgain(libc: Libc, registration: Registration, fd: number): boolean {
  if (socketInode(libc, fd) !== registration.inode) return false;
  const event = epollEvent(libc, registration.events | EPOLLIN, registration.data);
  return modify(libc, registration, fd, event);
}
