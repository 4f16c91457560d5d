/**
 * Trying the replacement of a polled file on sockets and an epoll instance of our own: what the
 * machine allows is known before a reload.
 */
import type { Libc } from "../core/socket_adapter.ts";
import { EPOLL_CTL_ADD, EPOLLIN, SOCK_CLOEXEC, SOCK_STREAM } from "./constants.ts";
import { createPair } from "./places.ts";
import { scanSockets } from "./socket_scan.ts";
import { duplicate, epollEvent, type Refusal, replaceFile } from "./transplant.ts";

/** As long as an address in memory: half of a number would not do. */
const DATA = 0x1234_5678_9abc_def0n;

/** Whether another socket can be put below one that is polled: `undefined`, or why not. */
export function canTransplant(libc: Libc): Refusal | undefined {
  const opened: number[] = [];
  const open = (fd: number) => (opened.push(fd), fd);
  function pair(): [number, number] {
    const [a, b] = createPair(libc, SOCK_STREAM) ?? [-1, -1];
    return [open(a), open(b)];
  }
  try {
    const [[old, oldFar], [fresh, freshFar]] = [pair(), pair()];
    const epoll = open(libc.epoll_create1(SOCK_CLOEXEC));
    if (opened.some((fd) => fd < 0)) return "sockets and an epoll instance cannot be made here";
    if (libc.epoll_ctl(epoll, EPOLL_CTL_ADD, old, epollEvent(libc, EPOLLIN, DATA)) !== 0) {
      return "a socket cannot be polled here";
    }
    const scan = scanSockets(libc, [old, epoll]);
    if (scan.epolls.length === 0) return "/proc/self/fd does not show what the descriptors are";
    const [found] = scan.registrations(old);
    if (found === undefined) {
      return "/proc/self/fdinfo does not show which files an epoll instance polls";
    }
    if (found.data !== DATA) {
      return "/proc/self/fdinfo shows other data of a registration than those that were given";
    }
    // The old file lives on, as a socket does that was sent to another process.
    open(duplicate(libc, old));
    const refusal = replaceFile(libc, scan, old, fresh);
    if (refusal !== undefined) return refusal;
    // What comes for the old file is not heard of any more, and for the new one under the old
    // registration.
    const events = new Uint8Array(2 * libc.epollEventBytes);
    const byte = new Uint8Array(1);
    libc.write(oldFar, byte, 1);
    if (libc.epoll_wait(epoll, events, 2, 0) !== 0) {
      return "events of the old file are still reported";
    }
    libc.write(freshFar, byte, 1);
    const count = libc.epoll_wait(epoll, events, 2, 0);
    const data = new DataView(events.buffer).getBigUint64(libc.epollEventBytes - 8, true);
    return count === 1 && data === DATA ? undefined : "events of the new file are not reported";
  } finally {
    for (const fd of opened) if (fd >= 0) libc.close(fd);
  }
}
