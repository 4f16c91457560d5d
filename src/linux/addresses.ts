/** Socket addresses as the C library has them. */

import type { Libc, SocketAddress } from "../core/socket_adapter.ts";
import { AF_INET, AF_INET6, AF_UNIX } from "./constants.ts";
import { getAddress } from "./socket_options.ts";

/** Names an address: the same for all sockets that share it. */
export function addressKey(address: Uint8Array, port: number): string {
  return `${[...address].map((byte) => byte.toString(16).padStart(2, "0")).join("")}:${port}`;
}

/**
 * A struct sockaddr_in or sockaddr_in6, as a key and as people write it. Names travel between
 * processes of different versions.
 */
export function readSocketAddress(
  bytes: Uint8Array,
): { key: string; name: string; host: string; port: number } | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const family = new Uint16Array(bytes.slice(0, 2).buffer)[0];
  if (family !== AF_INET && family !== AF_INET6) return undefined;
  const port = view.getUint16(2);
  const address = family === AF_INET ? bytes.slice(4, 8) : bytes.slice(8, 24);
  const host = family === AF_INET ? address.join(".") : formatIPv6(address);
  return {
    key: addressKey(address, port),
    name: family === AF_INET ? `${host}:${port}` : `[${host}]:${port}`,
    host,
    port,
  };
}

/** A struct sockaddr_in or sockaddr_in6 in the form of node:net; `undefined` for another. */
export function toSocketAddress(bytes: Uint8Array): SocketAddress | undefined {
  const end = readSocketAddress(bytes);
  if (end === undefined) return undefined;
  return asSocketAddress(bytes[0] === AF_INET ? bytes.slice(4, 8) : bytes.slice(8, 24), end.port);
}

/** The 4 or 16 bytes of an address, and a port, in the form of node:net. */
export function asSocketAddress(address: Uint8Array, port: number): SocketAddress {
  if (address.length === 4) return { address: address.join("."), family: "IPv4", port };
  return { address: shortIPv6(address), family: "IPv6", port };
}

/** As RFC 5952 has it; a client of IPv4 at a socket of IPv6 as `::ffff:127.0.0.1`. */
function shortIPv6(address: Uint8Array): string {
  const isMapped = address.subarray(0, 10).every((byte) => byte === 0) && address[10] === 255 &&
    address[11] === 255;
  if (isMapped) return `::ffff:${address.slice(12).join(".")}`;
  return new URL(`http://[${formatIPv6(address)}]`).hostname.slice(1, -1);
}

const ANY = ["0.0.0.0", "::", "[::]"];
const LOOPBACK = ["127.0.0.1", "::1", "[::1]", "localhost"];

/**
 * Whether a server that asks for a host may have a socket that a process was started with. Both
 * listen on all addresses, or on the same one: where one socket listens on all addresses of IPv6,
 * none else can have the port.
 */
export function isSameHost(asked: string | undefined, has: string): boolean {
  return asked === undefined || asked === has ||
    [ANY, LOOPBACK].some((names) => names.includes(asked) && names.includes(has));
}

/** One end of a socket. */
export interface Endpoint {
  /** The same for all sockets with this end. */
  readonly key: string;
  /** For people. */
  readonly name: string;
  /** The IP address in `name`; `undefined` for a unix socket. */
  readonly host: string | undefined;
  /** The port of TCP or UDP; `undefined` for a unix socket. */
  readonly port: number | undefined;
}

/** The port in a struct sockaddr; `undefined` where it has none. */
export function readPort(bytes: Uint8Array): number | undefined {
  if (bytes.length < 4) return undefined;
  // All processors that these runtimes have on Linux are little-endian.
  const family = (bytes[0] as number) | (bytes[1] as number) << 8;
  return family === AF_INET || family === AF_INET6
    ? (bytes[2] as number) << 8 | (bytes[3] as number)
    : undefined;
}

/**
 * A struct sockaddr, as long as the kernel wrote it; unix(7). Names of the abstract namespace begin
 * with `@` here, as in /proc/net/unix; a unix socket without a name has the name `""`.
 */
export function readEndpoint(bytes: Uint8Array): Endpoint | undefined {
  if (bytes.length < 2) return undefined;
  const family = new Uint16Array(bytes.slice(0, 2).buffer)[0];
  if (family === AF_INET) return bytes.length < 8 ? undefined : readSocketAddress(bytes);
  if (family === AF_INET6) return bytes.length < 24 ? undefined : readSocketAddress(bytes);
  if (family !== AF_UNIX) return undefined;
  const isAbstract = bytes[2] === 0 && bytes.length > 3;
  const text = new TextDecoder().decode(bytes.subarray(isAbstract ? 3 : 2));
  const name = isAbstract ? `@${text}` : text.replace(/\0.*$/s, "");
  return { key: `unix:${name}`, name, host: undefined, port: undefined };
}

/** As RFC 5952, except that only the address of all zeros is shortened. */
function formatIPv6(address: Uint8Array): string {
  if (address.every((byte) => byte === 0)) return "::";
  const view = new DataView(address.buffer, address.byteOffset);
  return Array.from({ length: 8 }, (_, i) => view.getUint16(2 * i).toString(16)).join(":");
}

/** Where a socket is, in the form of node:net. */
export function addressOfSocket(libc: Libc, fd: number): SocketAddress | string | undefined {
  const address = getAddress(libc, "getsockname", fd);
  return address && (toSocketAddress(address) ?? readEndpoint(address)?.name);
}
