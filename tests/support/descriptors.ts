/**
 * A kernel's open files, as far as they matter to who replaces one below a descriptor: dup(2),
 * fcntl(2), epoll(7), proc_pid_fdinfo(5), SCM_RIGHTS of unix(7).
 */
import type { Libc } from "../../src/core/socket_adapter.ts";
import { readControl, rightsFor } from "../../src/linux/control_messages.ts";

/** An open file, which several descriptors may share. */
export interface OpenFile {
  readonly inode: number;
  readonly kind: "socket" | "epoll" | "proc";
  nonBlocking: boolean;
  listening: boolean;
  /** Of an epoll instance: what it polls, by file and descriptor. */
  readonly polled: { file: OpenFile; fd: number; events: number; data: bigint }[];
  /** Of a file in /proc: what is still to be read. */
  rest: string;
  /** Of one of a pair: the other one. */
  peer: OpenFile | undefined;
  /** What the other one has sent. */
  readonly received: { data: Uint8Array; files: OpenFile[] }[];
}

/** A process with descriptors, and the calls that it can make. */
export interface SimulatedDescriptors {
  readonly libc: Libc;
  readonly table: ReadonlyMap<number, OpenFile>;
  /** Opens a file below the lowest free descriptor. */
  open(kind: OpenFile["kind"]): number;
  /** A further descriptor of a file. */
  duplicate(fd: number): number;
  /** Polls a descriptor. */
  poll(epoll: number, fd: number, events: number, data: bigint): void;
  /**
   * What a runtime and the kernel know, in a form that can be compared. Descriptors that were
   * opened later are left out where asked for.
   */
  describe(fds?: readonly number[]): string;
  /** The number of calls so far. */
  calls(): number;
}

/**
 * @param failsAt Which call fails, the first is 1. Calls that only read go on working, as close(2)
 * does.
 */
export function simulateDescriptors(failsAt = 0): SimulatedDescriptors {
  const table = new Map<number, OpenFile>();
  let inodes = 1000;
  let calls = 0;
  const text = (path: Uint8Array) => new TextDecoder().decode(path).replace("\0", "");
  const file = (kind: OpenFile["kind"]): OpenFile => ({
    inode: inodes++,
    kind,
    nonBlocking: kind === "socket",
    listening: false,
    polled: [],
    rest: "",
    peer: undefined,
    received: [],
  });

  function put(opened: OpenFile): number {
    let fd = 3;
    while (table.has(fd)) fd++;
    table.set(fd, opened);
    return fd;
  }
  function close(fd: number): number {
    const closed = table.get(fd);
    if (closed === undefined) return -1;
    table.delete(fd);
    // Only the last descriptor of a file ends its registrations; epoll(7), questions and answers,
    // 6.
    const files = [...table.values()];
    const sent = files.flatMap(({ received }) => received.flatMap(({ files }) => files));
    if (files.includes(closed) || sent.includes(closed)) return 0;
    for (const { polled } of table.values()) {
      polled.splice(0, polled.length, ...polled.filter((entry) => entry.file !== closed));
    }
    return 0;
  }
  /** What changes something fails on demand. */
  function attempt(call: () => number): number {
    return ++calls === failsAt ? -1 : call();
  }

  function fdinfo({ polled }: OpenFile): string {
    return "pos:\t0\nflags:\t02000002\nmnt_id:\t17\nino:\t20\n" +
      polled.map(({ file, fd, events, data }) =>
        `tfd: ${String(fd).padStart(8)} events: ${events.toString(16).padStart(8)} data: ${
          data.toString(16).padStart(16)
        } ` +
        ` pos:0 ino:${file.inode.toString(16)} sdev:9\n`
      ).join("");
  }
  const link = (opened: OpenFile) =>
    opened.kind === "socket" ? `socket:[${opened.inode}]` : "anon_inode:[eventpoll]";

  /** What has an address: its place here, from 1 on. */
  const memory: Uint8Array[] = [];
  const at = (address: bigint | undefined) => memory[Number(address) - 1] as Uint8Array;
  /** What a struct msghdr leads to. */
  function partsOf(message: Uint8Array) {
    const header = new BigUint64Array(message.buffer);
    const [vector] = new BigUint64Array(at(header[2]).buffer);
    return { header, data: at(vector), control: at(header[4]) };
  }

  const unused = () => -1;
  const libc: Libc = {
    socket: () => attempt(() => put(file("socket"))),
    socketpair: (_domain, _type, _protocol, fds) =>
      attempt(() => {
        const pair = [file("socket"), file("socket")] as const;
        [pair[0].peer, pair[1].peer] = [pair[1], pair[0]];
        new Int32Array(fds.buffer).set(pair.map(put));
        return 0;
      }),
    bind: (fd) => attempt(() => table.has(fd) ? 0 : -1),
    listen: (fd) =>
      attempt(() => {
        const opened = table.get(fd);
        if (opened === undefined) return -1;
        opened.listening = true;
        return 0;
      }),
    dup3: (from, to) =>
      attempt(() => {
        const opened = table.get(from);
        if (opened === undefined) return -1;
        close(to);
        table.set(to, opened);
        return to;
      }),
    close: (fd) => (calls++, close(fd)),
    fcntl(fd, command, argument) {
      const opened = table.get(fd);
      if (opened === undefined) return -1;
      if (command === 3) return opened.nonBlocking ? 0o4002 : 2;
      if (command === 4) {
        return attempt(() => ((opened.nonBlocking = (argument & 0o4000) !== 0), 0));
      }
      if (command === 1030) return attempt(() => put(opened));
      return 0;
    },
    epoll_ctl: (epoll, operation, fd, event) =>
      attempt(() => {
        const instance = table.get(epoll);
        const polled = table.get(fd);
        if (instance === undefined || polled === undefined) return -1;
        const at = instance.polled.findIndex((entry) => entry.file === polled && entry.fd === fd);
        if (operation === 1 ? at >= 0 : at < 0) return -1; // EEXIST, ENOENT
        const view = new DataView(event.buffer);
        if (operation === 2) instance.polled.splice(at, 1);
        else if (operation === 3) {
          Object.assign(instance.polled[at] as object, { events: view.getUint32(0, true) });
        } else {instance.polled.push({
            file: polled,
            fd,
            events: view.getUint32(0, true),
            data: view.getBigUint64(4, true),
          });}
        return 0;
      }),
    open(path) {
      const name = text(path);
      const of = table.get(Number(/^\/proc\/self\/fdinfo\/(\d+)$/.exec(name)?.[1]));
      const rest = name === "/proc/self/status"
        ? "Name:\tx\nFDSize:\t64\nGroups:\t0\n"
        : of && fdinfo(of);
      return rest === undefined ? -1 : put({ ...file("proc"), rest });
    },
    read(fd, buffer, count) {
      const opened = table.get(fd);
      if (opened === undefined) return -1;
      const piece = opened.rest.slice(0, count);
      opened.rest = opened.rest.slice(count);
      buffer.set(new TextEncoder().encode(piece));
      return piece.length;
    },
    readlink(path, buffer) {
      const opened = table.get(Number(text(path).replace("/proc/self/fd/", "")));
      if (opened === undefined) return -1;
      const bytes = new TextEncoder().encode(link(opened));
      buffer.set(bytes);
      return bytes.length;
    },
    getsockopt(fd, _level, name, value) {
      const opened = table.get(fd);
      if (opened?.kind !== "socket") return -1;
      new Int32Array(value.buffer)[0] = name === 30 ? Number(opened.listening) : 1;
      return 0;
    },
    getsockname(fd, address, length) {
      if (table.get(fd)?.kind !== "socket") return -1;
      address.set([1, 0]);
      new Uint32Array(length.buffer)[0] = 2;
      return 0;
    },
    getpeername: (fd) => table.get(fd)?.listening === false ? 0 : -1,
    setsockopt: unused,
    ioctl: unused,
    connect: unused,
    write: unused,
    sendmsg: (fd, message) =>
      attempt(() => {
        const { data, control } = partsOf(message);
        const { fds } = readControl(control);
        const files = fds.map((sent) => table.get(sent) as OpenFile);
        table.get(fd)?.peer?.received.push({ data: data.slice(), files });
        return data.length;
      }),
    recvmsg(fd, message) {
      const { data, control, header } = partsOf(message);
      const next = table.get(fd)?.received.shift();
      if (next === undefined) return -1;
      data.set(next.data);
      const rights = rightsFor(next.files.map(put));
      control.set(rights);
      header[5] = BigInt(rights.length);
      return next.data.length;
    },
    poll: () => 0,
    epoll_create1: unused,
    epoll_wait: unused,
    addressOf(buffer) {
      memory.push(buffer);
      return BigInt(memory.length);
    },
    epollEventBytes: 12,
  };
  return {
    libc,
    table,
    open: (kind) => put(file(kind)),
    duplicate: (fd) => put(table.get(fd) as OpenFile),
    poll(epoll, fd, events, data) {
      table.get(epoll)?.polled.push({ file: table.get(fd) as OpenFile, fd, events, data });
    },
    describe(given = [...table.keys()]) {
      const fds = given.toSorted((a, b) => a - b);
      const files = fds.map((fd) => `${fd}: ${table.get(fd)?.inode}`);
      const polled = fds.map((fd) =>
        table.get(fd)?.polled.map(({ file, fd, events, data }) =>
          `${fd} ${file.inode} ${events} ${data}`
        ).sort().join(", ")
      );
      return JSON.stringify([files, polled]);
    },
    calls: () => calls,
  };
}
