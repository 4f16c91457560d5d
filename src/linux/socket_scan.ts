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
  /** The descriptors of epoll instances. Deno's has two. */
  readonly epolls: readonly number[];
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
  const epolls: number[] = [];
  for (const fd of descriptors) {
    const socket = readSocket(libc, fd);
    if (socket !== undefined) sockets.set(fd, socket);
    else if (
      libc.fcntl(fd, F_GETFD, 0) >= 0 && readDescriptor(libc, fd) === "anon_inode:[eventpoll]"
    ) epolls.push(fd);
  }
  return { sockets, ...readRegistrations(libc, epolls), epolls };
}

/**
 * What epoll instances poll: a microsecond for each descriptor, where the instances are known from
 * a scan.
 */
export function readRegistrations(libc: Libc, epolls: readonly number[]): Polled {
  const registrations = createRegistrations();
  for (const fd of epolls) {
    registrations.add(fd, readProc(libc, `/proc/self/fdinfo/${fd}`, undefined, FDINFO_BYTES));
  }
  return { registrations: registrations.of };
}

const LINE = /^tfd: *(\d+) events: *([0-9a-f]+) data: *([0-9a-f]+) +pos:-?\d+ ino:([0-9a-f]+) /gm;

/**
 * Collects which descriptors the runtime polls, and how: proc_pid_fdinfo(5) of its epoll instances.
 */
export interface Registrations {
  /** Adds those in the text of /proc/self/fdinfo/EPOLL. */
  add(epoll: number, text: string): void;
  /** Those of a descriptor. */
  of(fd: number): readonly Registration[];
}

/** An empty collection. */
export function createRegistrations(): Registrations {
  const found = new Map<number, Registration[]>();
  const instances: { body: string; epolls: number[] }[] = [];
  const find = ({ fd, events, data, inode }: ParsedLine) =>
    found.get(fd)?.find((one) => one.inode === inode && one.events === events && one.data === data);
  return {
    add(epoll, text) {
      const start = text.indexOf("tfd:");
      if (start < 0) return;
      const body = text.slice(start);
      // Two descriptors of one instance. Not certain, and need not be: see `replaceFile`.
      const same = instances.find((instance) => instance.body === body);
      if (same !== undefined) return void same.epolls.push(epoll);
      const lines = parseLines(body);
      // The same, where another thread has changed meanwhile what it polls.
      const known = lines.map(find);
      const twin = known.find((one) => one !== undefined);
      const epolls = instances.find((instance) => instance.epolls === twin?.epolls)?.epolls ?? [];
      epolls.push(epoll);
      instances.push({ body, epolls });
      for (const { fd, ...line } of lines.filter((_, i) => known[i] === undefined)) {
        const others = found.get(fd);
        if (others === undefined) found.set(fd, [{ ...line, epolls }]);
        else others.push({ ...line, epolls });
      }
    },
    of: (fd) => found.get(fd) ?? [],
  };
}

/** A registration, and its descriptor. */
interface ParsedLine extends Omit<Registration, "epolls"> {
  readonly fd: number;
}

function parseLines(body: string): ParsedLine[] {
  return [...body.matchAll(LINE)].map(([, fd, events, data, inode]) => ({
    fd: Number(fd),
    events: parseInt(events as string, 16),
    data: BigInt(`0x${data}`),
    inode: parseInt(inode as string, 16),
  }));
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
