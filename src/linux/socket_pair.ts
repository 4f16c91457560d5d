import type { Libc } from "../core/socket_adapter.ts";
import { AF_UNIX, SOCK_CLOEXEC, SOCK_NONBLOCK } from "./constants.ts";

/** A pair of connected sockets of a type, which a new process inherits only if it is told to. `undefined` where none can be made. */
export function createPair(libc: Libc, type: number): [number, number] | undefined {
  const fds = new Int32Array(2);
  const flags = SOCK_NONBLOCK | SOCK_CLOEXEC;
  return libc.socketpair(AF_UNIX, type | flags, 0, new Uint8Array(fds.buffer)) === 0 ? [...fds] as [number, number] : undefined;
}
