import type { Libc, SocketAddress } from "../core/socket_adapter.ts";
import { readPort, toSocketAddress } from "./addresses.ts";
import { AF_UNIX, SOCK_CLOEXEC, SOCK_DGRAM } from "./constants.ts";
import { possibleDescriptors } from "./proc_files.ts";
import { getAddress } from "./socket_options.ts";

/** An address of IPv4, also where a socket of IPv6 has it. */
const plain = (address: string) => address.replace(/^::ffff:(?=\d+\.)/, "");

/**
 * The descriptor of a connection that this process has accepted a moment ago. The kernel gives out the lowest number that is free, so the
 * search begins there: among thousands, a few are looked at.
 */
export function findConnection(libc: Libc, client: Pick<SocketAddress, "address" | "port">): number | undefined {
  const free = libc.socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (free >= 0) libc.close(free);
  const count = possibleDescriptors(libc).length;
  for (let distance = 1; distance <= count; distance++) {
    for (const fd of [free - distance, free + distance]) {
      if (fd < 0 || fd >= count) continue;
      const peer = getAddress(libc, "getpeername", fd);
      if (peer === undefined || readPort(peer) !== client.port) continue;
      if (plain(toSocketAddress(peer)?.address ?? "") === plain(client.address)) return fd;
    }
  }
  return undefined;
}
