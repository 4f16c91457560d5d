/** Socket addresses as the C library has them. */

import { AF_INET, AF_INET6 } from "./constants.ts";

/** Names an address: the same for all sockets that share it. */
export function addressKey(address: Uint8Array, port: number): string {
  return `${[...address].map((byte) => byte.toString(16).padStart(2, "0")).join("")}:${port}`;
}

/** A struct sockaddr_in or sockaddr_in6, as a key and as people write it. */
export function readSocketAddress(bytes: Uint8Array): { key: string; name: string; port: number } | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const family = new Uint16Array(bytes.slice(0, 2).buffer)[0];
  if (family !== AF_INET && family !== AF_INET6) return undefined;
  const port = view.getUint16(2);
  const address = family === AF_INET ? bytes.slice(4, 8) : bytes.slice(8, 24);
  const name = family === AF_INET ? address.join(".") : `[${formatIPv6(address)}]`;
  return { key: addressKey(address, port), name: `${name}:${port}`, port };
}

/** As RFC 5952, except that only the address of all zeros is shortened. */
export function formatIPv6(address: Uint8Array): string {
  if (address.every((byte) => byte === 0)) return "::";
  const view = new DataView(address.buffer, address.byteOffset);
  return Array.from({ length: 8 }, (_, i) => view.getUint16(2 * i).toString(16)).join(":");
}
