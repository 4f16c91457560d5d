/** All sockets of this process, and how they are polled. */
import type { Libc, Polled } from "../core/socket_adapter.ts";
import { type Endpoint, readEndpoint, readPort } from "./addresses.ts";
import { F_GETFD, SO_ACCEPTCONN, SO_TYPE, SOCK_DGRAM, SOCK_STREAM, SOL_SOCKET } from "./constants.ts";
import { possibleDescriptors, readDescriptor, readProc } from "./proc_files.ts";
import { createRegistrations } from "./registrations.ts";
import { getAddress, getOption } from "./socket_options.ts";

/** A socket of this process, whichever thread or library opened it. */
export interface OpenSocket {
  readonly fd: number;
  /** `other` is what neither listens nor is connected, and the types of sockets that have no name here. */
  readonly kind: "listener" | "connection" | "datagram" | "other";
  /** Both ports of TCP or UDP; `undefined` for another socket. For finding one among thousands. */
  readonly localPort: number | undefined;
  readonly peerPort: number | undefined;
  /** Both ends. Read when asked for: to write out thousands of addresses takes longer than all the rest. */
  local(): Endpoint | undefined;
  /** That of a connection, or of a datagram socket that is connected. */
  peer(): Endpoint | undefined;
}

/** What was open at one moment. */
export interface SocketScan extends Polled {
  readonly sockets: ReadonlyMap<number, OpenSocket>;
  /** The descriptors of epoll instances. Deno's has two. */
  readonly epolls: readonly number[];
}

/** A long list comes in few pieces: the kernel writes that of an instance at once, whatever its length. */
const FDINFO_BYTES = 2 ** 18;

function kindOf(libc: Libc, fd: number, isConnected: boolean): OpenSocket["kind"] {
  const type = getOption(libc, fd, SOL_SOCKET, SO_TYPE);
  if (type === SOCK_DGRAM) return "datagram";
  if (type !== SOCK_STREAM) return "other";
  if (isConnected) return "connection";
  return getOption(libc, fd, SOL_SOCKET, SO_ACCEPTCONN) === 1 ? "listener" : "other";
}

/** The socket below a descriptor, if it is one. */
export function readSocket(libc: Libc, fd: number): OpenSocket | undefined {
  const local = getAddress(libc, "getsockname", fd);
  if (local === undefined) return undefined;
  const peer = getAddress(libc, "getpeername", fd);
  return {
    fd,
    kind: kindOf(libc, fd, peer !== undefined),
    localPort: readPort(local),
    peerPort: peer && readPort(peer),
    local: () => readEndpoint(local),
    peer: () => peer && readEndpoint(peer),
  };
}

/**
 * Looks at all descriptors once: 4 to 8 microseconds for each socket, half of it in the kernel (Bun 1.4, Deno 2.9).
 *
 * @param descriptors Those to look at. Default: all that there can be, which costs no permission, and less than listing /proc/self/fd.
 */
export function scanSockets(libc: Libc, descriptors: readonly number[] = possibleDescriptors(libc)): SocketScan {
  const sockets = new Map<number, OpenSocket>();
  const epolls: number[] = [];
  for (const fd of descriptors) {
    const socket = readSocket(libc, fd);
    if (socket !== undefined) sockets.set(fd, socket);
    else if (libc.fcntl(fd, F_GETFD, 0) >= 0 && readDescriptor(libc, fd) === "anon_inode:[eventpoll]") epolls.push(fd);
  }
  return { sockets, ...readRegistrations(libc, epolls), epolls };
}

/** What epoll instances poll: a microsecond for each descriptor, where the instances are known from a scan. */
export function readRegistrations(libc: Libc, epolls: readonly number[]): Polled {
  const registrations = createRegistrations();
  for (const fd of epolls) registrations.add(fd, readProc(libc, `/proc/self/fdinfo/${fd}`, undefined, FDINFO_BYTES));
  return { registrations: registrations.of };
}
