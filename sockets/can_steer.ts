import type { Libc } from "../core/socket_adapter.ts";
import { AF_INET, countListeners, ownListeners, SO_REUSEPORT, SOCK_STREAM, SOL_SOCKET, steer } from "./reuseport.ts";

/** Tries on a socket of its own what the steering of a reload takes. */
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
    return listener !== undefined && (countListeners(libc).get(listener.key) ?? 0) === 1 && steer(libc, fd, 0, 1);
  } finally {
    libc.close(fd);
  }
}
