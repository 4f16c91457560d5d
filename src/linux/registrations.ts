/** Which descriptors a runtime polls, and how: proc_pid_fdinfo(5) of its epoll instances. */
import type { Registration } from "../core/socket_adapter.ts";

const LINE = /^tfd: *(\d+) events: *([0-9a-f]+) data: *([0-9a-f]+) +pos:-?\d+ ino:([0-9a-f]+) /gm;

/** Collects the registrations of epoll instances, by descriptor. */
export interface Registrations {
  /** Adds those in the text of /proc/self/fdinfo/EPOLL. */
  add(epoll: number, text: string): void;
  /** Those of a descriptor. */
  of(fd: number): readonly Registration[];
}

/** An empty collection. */
export function createRegistrations(): Registrations {
  const found = new Map<number, Registration[]>();
  const instances: { body: string; epolls: number[] }[] = [];
  return {
    add(epoll, text) {
      const start = text.indexOf("tfd:");
      if (start < 0) return;
      const body = text.slice(start);
      // Two descriptors of one instance. Not certain, and need not be: see `replaceFile`.
      const same = instances.find((instance) => instance.body === body);
      if (same !== undefined) return void same.epolls.push(epoll);
      const epolls = [epoll];
      instances.push({ body, epolls });
      for (const [, fd, events, data, inode] of body.matchAll(LINE)) {
        const registration = {
          epolls,
          events: parseInt(events as string, 16),
          data: BigInt(`0x${data}`),
          inode: parseInt(inode as string, 16),
        };
        const others = found.get(Number(fd));
        if (others === undefined) found.set(Number(fd), [registration]);
        else others.push(registration);
      }
    },
    of: (fd) => found.get(fd) ?? [],
  };
}
