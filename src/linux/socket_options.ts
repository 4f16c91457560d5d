/**
 * What the kernel knows of a socket: getsockopt(2), setsockopt(2), getsockname(2), getpeername(2).
 */
import type { Libc } from "../core/socket_adapter.ts";

// Used again for each call: there may be several calls for each of thousands of descriptors.
const value = new Int32Array(1);
const valueBytes = new Uint8Array(value.buffer);
const length = new Uint32Array(1);
const lengthBytes = new Uint8Array(length.buffer);
/** The size of struct sockaddr_storage. */
const address = new Uint8Array(128);

/**
 * An option that is a number; `undefined` where the descriptor is no socket, or the socket has no
 * such option.
 */
export function getOption(libc: Libc, fd: number, level: number, name: number): number | undefined {
  length[0] = 4;
  return libc.getsockopt(fd, level, name, valueBytes, lengthBytes) === 0 ? value[0] : undefined;
}

/** Sets an option that is a number. Returns whether that was possible. */
export function setOption(
  libc: Libc,
  fd: number,
  level: number,
  name: number,
  value: number,
): boolean {
  return libc.setsockopt(fd, level, name, new Uint8Array(new Int32Array([value]).buffer), 4) === 0;
}

/** The struct sockaddr of one end of a socket, as long as the kernel wrote it. */
export function getAddress(
  libc: Libc,
  call: "getsockname" | "getpeername",
  fd: number,
): Uint8Array | undefined {
  length[0] = address.length;
  return libc[call](fd, address, lengthBytes) === 0 ? address.slice(0, length[0]) : undefined;
}
