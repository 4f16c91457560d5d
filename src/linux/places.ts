/** Sockets that are made without a runtime, at the place of another one. */
import type { Libc } from "../core/socket_adapter.ts";
import {
  AF_INET6,
  AF_UNIX,
  SO_REUSEADDR,
  SO_REUSEPORT,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOCK_STREAM,
  SOL_SOCKET,
} from "./constants.ts";
import { getAddress, getOption, setOption } from "./socket_options.ts";

const IPPROTO_IPV6 = 41;
const IPV6_V6ONLY = 26;
/** The length of a queue, as node:net has it. */
const BACKLOG = 511;

/** What a socket has to be made with so that it listens where another one does. */
export interface SocketPlace {
  /** The bytes of its struct sockaddr. */
  readonly address: readonly number[];
  readonly ipv6Only: boolean;
  readonly reusePort: boolean;
}

/** Where a socket listens. */
export function placeOf(libc: Libc, fd: number): SocketPlace | undefined {
  const address = getAddress(libc, "getsockname", fd);
  return address && {
    address: [...address],
    ipv6Only: getOption(libc, fd, IPPROTO_IPV6, IPV6_V6ONLY) === 1,
    reusePort: getOption(libc, fd, SOL_SOCKET, SO_REUSEPORT) === 1,
  };
}

/** A place that came in a message; `undefined` for anything else. */
export function parsePlace(value: unknown): SocketPlace | undefined {
  const { address, ipv6Only, reusePort } = (value ?? {}) as Partial<SocketPlace>;
  const isBytes = Array.isArray(address) && address.length >= 2 && address.length <= 128 &&
    address.every((byte) => Number.isInteger(byte) && byte >= 0 && byte < 256);
  return isBytes
    ? { address, ipv6Only: ipv6Only === true, reusePort: reusePort === true }
    : undefined;
}

/**
 * Makes a socket that is bound to the same place. Returns the descriptor; `undefined` where that is
 * not possible, or not yet.
 */
function bindAt(
  libc: Libc,
  { address, ipv6Only, reusePort }: SocketPlace,
  type: number,
): number | undefined {
  const bytes = new Uint8Array(address);
  const family = new DataView(bytes.buffer).getUint16(0, true);
  if (family === AF_UNIX) return undefined;
  const fd = libc.socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return undefined;
  // Datagram sockets share their port with it.
  if (type === SOCK_STREAM) setOption(libc, fd, SOL_SOCKET, SO_REUSEADDR, 1);
  if (reusePort) setOption(libc, fd, SOL_SOCKET, SO_REUSEPORT, 1);
  if (family === AF_INET6) setOption(libc, fd, IPPROTO_IPV6, IPV6_V6ONLY, ipv6Only ? 1 : 0);
  if (libc.bind(fd, bytes, bytes.length) === 0) return fd;
  libc.close(fd);
  return undefined;
}

/** Listens on TCP at the same place; the result is as that of `bindAt`. */
export function listenAt(libc: Libc, place: SocketPlace): number | undefined {
  const fd = bindAt(libc, place, SOCK_STREAM);
  if (fd === undefined || libc.listen(fd, BACKLOG) === 0) return fd;
  libc.close(fd);
  return undefined;
}

/** Makes a datagram socket at the same place; the result is as that of `bindAt`. */
export function receiveAt(libc: Libc, place: SocketPlace): number | undefined {
  return bindAt(libc, place, SOCK_DGRAM);
}

/**
 * A pair of connected sockets of a type, which a new process inherits only if it is told to.
 * `undefined` where none can be made.
 */
export function createPair(libc: Libc, type: number): [number, number] | undefined {
  const fds = new Int32Array(2);
  const flags = SOCK_NONBLOCK | SOCK_CLOEXEC;
  return libc.socketpair(AF_UNIX, type | flags, 0, new Uint8Array(fds.buffer)) === 0
    ? [...fds] as [number, number]
    : undefined;
}
