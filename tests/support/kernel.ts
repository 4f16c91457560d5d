/** The group of sockets that share an address, as net/core/sock_reuseport.c keeps it. */
import type { Libc } from "../../src/core/socket_adapter.ts";

/** What a program returns for a random number; linux/filter.h. */
export function run(instructions: [code: number, k: number][], random: number): number {
  let a = 0;
  for (const [code, k] of instructions) {
    if (code === 0x06) return k;
    if (code === 0x20) a = random;
    else if (code === 0x94) a %= k;
    else if (code === 0x04) a += k;
    else if (code === 0x16) return a;
  }
  throw new Error("no return");
}

/** A kernel with one group of sockets. */
export interface Kernel {
  readonly libc: Libc;
  /**
   * The descriptors of the sockets in their order: those of the old process from 10 on, those of
   * the new one from 100 on.
   */
  readonly group: number[];
  /** The old process's. */
  readonly mine: ReadonlySet<number>;
  /** The sockets that may get the next connection. */
  candidates(): number[];
}

/** A kernel that has one group of sockets, and nothing else. */
export function createKernel(own: number, fresh: number): Kernel {
  const group = [...Array(own).keys()].map((i) => 10 + i).concat(
    [...Array(fresh).keys()].map((i) => 100 + i),
  );
  const mine = new Set(group.slice(0, own));
  let instructions: [number, number][] | undefined;
  const filters = new Map<bigint, Uint8Array>();
  let next = 1n;
  const unknown = () => -1;
  const put = (buffer: Uint8Array, value: number) => new Uint32Array(buffer.buffer)[0] = value;
  const libc: Libc = {
    socket: (domain) => domain === 16 ? -1 : 200,
    bind: () => 0,
    listen: () => 0,
    close: () => 0,
    write: (_fd, _buffer, count) => count,
    dup3(_from, to) {
      const i = group.indexOf(to);
      group[i] = group.at(-1) as number;
      group.pop();
      return to;
    },
    getsockopt(fd, _level, name, value, length) {
      if (!mine.has(fd) || !group.includes(fd)) return -1;
      put(value, name === 11 ? 0 : 1);
      put(length, 4);
      return 0;
    },
    setsockopt(_fd, _level, name, value) {
      if (name === 68) instructions = undefined;
      if (name !== 51) return 0;
      const filter = filters.get(new BigUint64Array(value.buffer)[1] as bigint) as Uint8Array;
      instructions = Array.from({ length: filter.length / 8 }, (_, i) => [
        new Uint16Array(filter.buffer, 8 * i, 1)[0] as number,
        new Uint32Array(filter.buffer, 8 * i + 4, 1)[0] as number,
      ]);
      return 0;
    },
    getsockname(_fd, address) {
      new Uint16Array(address.buffer)[0] = 2;
      address.set([0x1f, 0x40, 127, 0, 0, 1], 2);
      return 0;
    },
    open: (path) =>
      new TextDecoder().decode(path).includes("status")
        ? 300
        : new TextDecoder().decode(path).includes("tcp6")
        ? 302
        : 301,
    read(fd, buffer) {
      const line =
        "   0: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1\n";
      const text = fd === 300 ? "FDSize:\t256\n" : fd === 301 ? line.repeat(group.length) : "";
      if (reads.get(fd) === text) {
        reads.delete(fd);
        return 0;
      }
      reads.set(fd, text);
      buffer.set(new TextEncoder().encode(text));
      return new TextEncoder().encode(text).length;
    },
    readlink: unknown,
    fcntl: unknown,
    ioctl: unknown,
    getpeername: unknown,
    connect: unknown,
    socketpair: unknown,
    sendmsg: unknown,
    recvmsg: unknown,
    poll: unknown,
    epoll_create1: unknown,
    epoll_ctl: unknown,
    epoll_wait: unknown,
    epollEventBytes: 12,
    addressOf(buffer) {
      filters.set(next, buffer);
      return next++;
    },
  };
  const reads = new Map<number, string>();
  /**
   * Everybody who could get the next connection; the kernel hashes where the program names nobody.
   */
  function candidates(): number[] {
    const indices = new Set(
      instructions === undefined
        ? [-1]
        : Array.from({ length: 64 }, (_, i) => run(instructions!, i)),
    );
    return [
      ...new Set(
        [...indices].flatMap((index) =>
          group[index] === undefined ? group : [group[index] as number]
        ),
      ),
    ];
  }
  return { libc, group, mine, candidates };
}
