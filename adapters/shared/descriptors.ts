/** Passing descriptors between two processes of a reload, where the C library can be called. */
import type { DescriptorChannel } from "../../src/core/adapter.ts";
import type { Libc } from "../../src/core/socket_adapter.ts";
import { F_DUPFD_CLOEXEC, F_SETFD, FD_CLOEXEC, SOCK_SEQPACKET } from "../../src/linux/constants.ts";
import {
  describeEnd,
  discardEnd,
  inheritedEnd,
  receiveDescriptors,
  sendDescriptors,
} from "../../src/linux/descriptor_channel.ts";
import { nextDescriptors, SPARE } from "../../src/linux/free_descriptors.ts";
import { createPair } from "../../src/linux/places.ts";
import type { Spawn } from "./node_process.ts";

/** The shells between two processes use numbers below; see reparent.ts. */
const FIRST_FREE = 10;

/** The descriptors of a reload, in the old process. */
export interface OfferedDescriptors {
  readonly channel: DescriptorChannel;
  /** The end of the new process. */
  readonly end: number;
  /** What the new process is told of its end, when it has this number there. */
  describe(inherited: number): string;
}

function createChannel(libc: Libc, socket: number, onClose: () => void): DescriptorChannel {
  /** What came, and was not asked for yet. */
  const received = new Map<number, readonly number[]>();
  let sent = 0;
  let isOpen = true;

  function receive(): void {
    for (;;) {
      const message = receiveDescriptors(libc, socket);
      if (message.kind === "descriptors") received.set(message.tag, message.fds);
      else if (message.kind !== "invalid") return;
    }
  }
  return {
    send(fds) {
      const number = ++sent;
      return isOpen && sendDescriptors(libc, socket, fds, number) === "sent" ? number : undefined;
    },
    receive(number) {
      if (isOpen && !received.has(number)) receive();
      const fds = received.get(number);
      received.delete(number);
      return fds;
    },
    hasRoom(count) {
      const most = count + SPARE;
      return nextDescriptors(libc, socket, most).length === most;
    },
    discard(fds) {
      for (const fd of fds) libc.close(fd);
    },
    close() {
      if (!isOpen) return;
      receive();
      isOpen = false;
      for (const fds of received.values()) for (const fd of fds) libc.close(fd);
      libc.close(socket);
      onClose();
    },
  };
}

/** Makes a pair for a reload; `undefined` where this process has no descriptors left. */
export function offerDescriptors(libc: Libc): OfferedDescriptors | undefined {
  const [ours, theirs] = createPair(libc, SOCK_SEQPACKET) ?? [];
  if (ours === undefined || theirs === undefined) return undefined;
  const end = libc.fcntl(theirs, F_DUPFD_CLOEXEC, FIRST_FREE);
  libc.close(theirs);
  if (end < 0) {
    libc.close(ours);
    return undefined;
  }
  return {
    // This process keeps the end: what waits there when the new process dies is closed with it.
    channel: createChannel(libc, ours, () => discardEnd(libc, end)),
    end,
    describe: (inherited) => describeEnd(libc, end, inherited),
  };
}

/**
 * The descriptors of a reload, in the new process; `undefined` where it has not inherited its end.
 */
export function joinDescriptors(libc: Libc, description: string): DescriptorChannel | undefined {
  const socket = inheritedEnd(libc, description);
  return socket === undefined ? undefined : createChannel(libc, socket, () => {});
}

/**
 * Starts processes that inherit a descriptor, under the same number. Only where the runtime leaves
 * the others to the kernel.
 */
export function inheriting(libc: Libc, fd: number, spawn: Spawn): Spawn {
  return (...what) => {
    libc.fcntl(fd, F_SETFD, 0);
    try {
      return spawn(...what);
    } finally {
      // The process has started: it is a copy of this one, as it was.
      libc.fcntl(fd, F_SETFD, FD_CLOEXEC);
    }
  };
}
