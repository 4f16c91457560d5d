/**
 * Choosing which socket of a SO_REUSEPORT group gets the next connection: socket(7),
 * SO_ATTACH_REUSEPORT_CBPF, and the kernel's net/core/sock_reuseport.c.
 */
import type { Libc } from "../core/socket_adapter.ts";
import { AF_INET, SO_REUSEPORT, SOCK_STREAM, SOL_SOCKET } from "./constants.ts";
import { countListeners, ownListeners } from "./listeners.ts";

const SO_ATTACH_REUSEPORT_CBPF = 51;
const SO_DETACH_REUSEPORT_BPF = 68;

/**
 * A BPF program that returns a random number from `first` to `first + count - 1`; linux/filter.h,
 * linux/bpf_common.h.
 */
export function reuseportFilter(first: number, count: number): [code: number, k: number][] {
  if (count === 1) return [[0x06, first]]; // ret #first
  return [
    [0x20, 0xfffff038], // ld #rand
    [0x94, count], // mod #count
    [0x04, first], // add #first
    [0x16, 0], // ret a
  ];
}

/**
 * From now on all new connections go to the sockets `first` to `first + count - 1` of a group.
 * Where there are fewer, the kernel chooses among all.
 *
 * @param fd Any socket of the group.
 * @returns Whether the kernel accepted it.
 */
export function steer(libc: Libc, fd: number, first: number, count: number): boolean {
  const instructions = reuseportFilter(first, count);
  // struct sock_filter { u16 code; u8 jt; u8 jf; u32 k; }; struct sock_fprog { u16 len; struct
  // sock_filter *filter; }
  const filter = new Uint8Array(8 * instructions.length);
  instructions.forEach(([code, k], i) => {
    new Uint16Array(filter.buffer, 8 * i, 1)[0] = code;
    new Uint32Array(filter.buffer, 8 * i + 4, 1)[0] = k;
  });
  const fprog = new Uint8Array(16);
  new Uint16Array(fprog.buffer, 0, 1)[0] = instructions.length;
  new BigUint64Array(fprog.buffer, 8, 1)[0] = libc.addressOf(filter);
  return libc.setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, fprog, fprog.length) === 0;
}

/** From now on all sockets of the group get new connections again. */
export function unsteer(libc: Libc, fd: number): void {
  libc.setsockopt(fd, SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, new Uint8Array(4), 4);
}

/** Tries on a socket of its own whether this process may steer. */
export function canSteer(libc: Libc): boolean {
  const fd = libc.socket(AF_INET, SOCK_STREAM, 0);
  if (fd < 0) return false;
  try {
    const one = new Uint8Array(new Uint32Array([1]).buffer);
    const address = new Uint8Array(16);
    address.set([AF_INET]);
    address.set([127, 0, 0, 1], 4);
    libc.setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, one, one.length);
    if (libc.bind(fd, address, address.length) < 0 || libc.listen(fd, 1) < 0) return false;
    const [listener] = ownListeners(libc, [fd]);
    return listener !== undefined && (countListeners(libc).get(listener.key) ?? 0) === 1 &&
      steer(libc, fd, 0, 1);
  } finally {
    libc.close(fd);
  }
}
