/** All sockets of this process, and how they are polled. */
import type { Libc, Polled, Registration, SocketAddress } from "../core/socket_adapter.ts";
import { type Endpoint, readEndpoint, readPort, toSocketAddress } from "./addresses.ts";
import {
  AF_UNIX,
  F_GETFD,
  SO_ACCEPTCONN,
  SO_TYPE,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_STREAM,
  SOL_SOCKET,
} from "./constants.ts";
import { possibleDescriptors, readDescriptor, readProc } from "./proc_files.ts";
import { getAddress, getOption } from "./socket_options.ts";

/** A socket of this process, whichever thread or library opened it. */
export interface OpenSocket {
  readonly fd: number;
  /**
   * `other` is what neither listens nor is connected, and the types of sockets that have no name
   * here.
   */
  readonly kind: "listener" | "connection" | "datagram" | "other";
  /** Both ports of TCP or UDP; `undefined` for another socket. For finding one among thousands. */
  readonly localPort: number | undefined;
  readonly peerPort: number | undefined;
  /**
   * Both ends. Read when asked for: to write out thousands of addresses takes longer than all the
   * rest.
   */
  local(): Endpoint | undefined;
  /** That of a connection, or of a datagram socket that is connected. */
  peer(): Endpoint | undefined;
}

/** What was open at one moment. */
export interface SocketScan extends Polled {
  readonly sockets: ReadonlyMap<number, OpenSocket>;
  /** The epoll instances, by their descriptors. Deno's has two. */
  readonly epolls: readonly (readonly number[])[];
}

/**
 * A long list comes in few pieces: the kernel writes that of an instance at once, whatever its
 * length.
 */
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
 * Looks at all descriptors once: 4 to 8 microseconds for each socket, half of it in the kernel (Bun
 * 1.4, Deno 2.9).
 *
 * @param descriptors Those to look at. Default: all that there can be, which costs no permission,
 * and less than listing /proc/self/fd.
 */
export function scanSockets(
  libc: Libc,
  descriptors: readonly number[] = possibleDescriptors(libc),
): SocketScan {
  const sockets = new Map<number, OpenSocket>();
  const epolls: number[][] = [];
  for (const fd of descriptors) {
    const socket = readSocket(libc, fd);
    if (socket !== undefined) sockets.set(fd, socket);
    else if (
      libc.fcntl(fd, F_GETFD, 0) >= 0 && readDescriptor(libc, fd) === "anon_inode:[eventpoll]"
    ) epolls.push([fd]);
  }
  return { sockets, ...readRegistrations(libc, epolls) };
}

/**
 * The descriptors of the connections that were accepted at a place.
 *
 * @param at The port, or the name of the unix socket.
 */
export function connectionsAt({ sockets }: SocketScan, at: number | string): number[] {
  return [...sockets.values()]
    .filter(({ kind, localPort, local }) =>
      kind === "connection" && (typeof at === "number" ? localPort : local()?.name) === at
    )
    .map(({ fd }) => fd);
}

/**
 * What epoll instances poll: two microseconds for each descriptor, nearly all of it in the kernel.
 *
 * @param epolls The instances, by their descriptors, as far as it is known which belong together.
 */
export function readRegistrations(
  libc: Libc,
  epolls: SocketScan["epolls"],
): Pick<SocketScan, "registrations" | "epolls"> {
  const registrations = createRegistrations();
  for (const fds of epolls) {
    registrations.add(fds, readProc(libc, `/proc/self/fdinfo/${fds[0]}`, undefined, FDINFO_BYTES));
  }
  return { registrations: registrations.of, epolls: registrations.epolls };
}

/**
 * Collects which descriptors the runtime polls, and how: proc_pid_fdinfo(5) of its epoll instances.
 */
export interface Registrations {
  /** The instances that were added, by their descriptors. */
  readonly epolls: readonly (readonly number[])[];
  /** Adds those in the text of /proc/self/fdinfo/EPOLL, of an instance with these descriptors. */
  add(epolls: readonly number[], text: string): void;
  /** Those of a descriptor. */
  of(fd: number): readonly Registration[];
}

/** A line of such a text. It is parsed when it is asked for: there may be thousands. */
interface Line {
  readonly text: string;
  readonly epolls: number[];
}

/** An empty collection. */
export function createRegistrations(): Registrations {
  const found = new Map<number, Line[]>();
  const instances: number[][] = [];
  const find = (text: string) => found.get(descriptorOf(text))?.find((line) => line.text === text);
  return {
    epolls: instances,
    add(fds, text) {
      const lines = text.split("\n").filter((line) => line.startsWith("tfd:"));
      // Two descriptors of one instance. Not all lines are the same where another thread has
      // changed meanwhile what it polls. Not certain, and need not be: see `replaceFile`.
      const known = lines.map(find);
      const twin = known.find((line) => line !== undefined)?.epolls;
      const epolls = twin ?? [];
      if (twin === undefined) instances.push(epolls);
      epolls.push(...fds);
      for (const text of lines.filter((_, i) => known[i] === undefined)) {
        const fd = descriptorOf(text);
        const others = found.get(fd);
        if (others === undefined) found.set(fd, [{ text, epolls }]);
        else others.push({ text, epolls });
      }
    },
    of: (fd) => (found.get(fd) ?? []).flatMap(parseLine),
  };
}

const LINE = /^tfd: *\d+ events: *([0-9a-f]+) data: *([0-9a-f]+) +pos:-?\d+ ino:([0-9a-f]+) /;

const descriptorOf = (line: string) => parseInt(line.slice("tfd:".length), 10);

function parseLine({ text, epolls }: Line): Registration[] {
  const [, events, data, inode] = LINE.exec(text) ?? [];
  if (events === undefined || inode === undefined) return [];
  return [{
    epolls,
    events: parseInt(events, 16),
    data: BigInt(`0x${data}`),
    inode: parseInt(inode, 16),
  }];
}

/** An address of IPv4, also where a socket of IPv6 has it. */
const plain = (address: string) => address.replace(/^::ffff:(?=\d+\.)/, "");

/**
 * The descriptor of a connection that this process has accepted a moment ago. The kernel gives out
 * the lowest number that is free, so the search begins there: among thousands, a few are looked at.
 */
export function findConnection(
  libc: Libc,
  client: Pick<SocketAddress, "address" | "port">,
): number | undefined {
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
