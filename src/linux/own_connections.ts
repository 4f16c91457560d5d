/**
 * Connections that this process makes to a server of its own. Neither Bun.serve nor Deno.serve
 * takes a connection; but each accepts those that come, and another one can be put below them.
 */
import type { Libc, Polled, SocketAddress } from "../core/socket_adapter.ts";
import { readPort } from "./addresses.ts";
import { AF_INET, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_STREAM } from "./constants.ts";
import { nextDescriptors, SPARE } from "./free_descriptors.ts";
import { listenAt } from "./places.ts";
import { possibleDescriptors } from "./proc_files.ts";
import { getAddress } from "./socket_options.ts";
import { findRegistration, giveBack, type Refusal, takeListener } from "./transplant.ts";

/** How many other descriptors may be opened while the server accepts: connections arrive. */
const OTHERS = 256;

/** One of these connections. */
export interface OwnConnection {
  /** Its descriptor on the side of the client. */
  readonly client: number;
  /** Its address, by which the server knows it. */
  readonly address: SocketAddress;
}

/** A server, of which such connections are accepted while others wait. */
export interface OwnConnections {
  readonly connections: readonly OwnConnection[];
  /**
   * Looks for those that the server has accepted meanwhile: at the descriptors that were free, or at
   * all that there are, which takes long. Returns how many were found so far.
   */
  look(isEverywhere: boolean): number;
  /** The descriptors that were found, and are still theirs. */
  accepted(): Map<OwnConnection, number>;
  /** The server accepts from its own socket again. */
  end(): Refusal | undefined;
}

function loopback(port: number, host: readonly number[] = [127, 0, 0, 1]): Uint8Array {
  const bytes = new Uint8Array(16);
  bytes.set([AF_INET, 0, port >> 8, port & 255, ...host]);
  return bytes;
}

/** An address of this machine that no other client has: all that begin with 127 are its own. */
function unusualHost(): number[] {
  return [127, ...crypto.getRandomValues(new Uint8Array(3)).map((byte) => 1 + byte % 254)];
}

function portOf(libc: Libc, call: "getsockname" | "getpeername", fd: number): number | undefined {
  const address = getAddress(libc, call, fd);
  return address && readPort(address);
}

/** Connections from an address that no other client has: at most so many. */
function connectTo(libc: Libc, port: number, most: number): OwnConnection[] {
  const connections: OwnConnection[] = [];
  const address = loopback(port);
  const host = unusualHost();
  const from = loopback(0, host);
  while (connections.length < most) {
    const client = libc.socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (client < 0) break;
    const own = libc.bind(client, from, from.length) === 0
      ? portOf(libc, "getsockname", client)
      : undefined;
    if (own === undefined) {
      libc.close(client);
      break;
    }
    libc.connect(client, address, address.length); // EINPROGRESS, at most: it waits to be accepted.
    connections.push({ client, address: { address: host.join("."), family: "IPv4", port: own } });
  }
  return connections;
}

/**
 * Connects to a server of this process, over a port that nobody knows: for as long as that takes,
 * what comes for everybody else waits in the socket of the server.
 *
 * @param listener The descriptor of the server's socket, which it polls.
 * @param count At most so many connections are made: fewer where no more can be had.
 */
export function connectToOwn(
  libc: Libc,
  scan: Polled,
  listener: number,
  count: number,
): OwnConnections | Refusal {
  const own = listenAt(libc, { address: [...loopback(0)], ipv6Only: false, reusePort: false });
  if (own === undefined) return "no socket can be made";
  const port = portOf(libc, "getsockname", own) ?? 0;
  const registration = findRegistration(libc, scan, listener);
  const taken = takeListener(libc, scan, listener, own);
  if (typeof taken === "string" || typeof registration === "string") return String(taken);
  const free = nextDescriptors(libc, listener, 2 * count + OTHERS);
  const most = Math.max(1, Math.min(count, Math.floor((free.length - SPARE) / 2)));
  const connections = connectTo(libc, port, most);
  // Those of the clients come first.
  const expected = free.slice(connections.length);
  const byPort = new Map(connections.map((connection) => [connection.address.port, connection]));
  const found = new Map<OwnConnection, number>();
  const known = new Set<number>();
  function connectionAt(fd: number): OwnConnection | undefined {
    const connection = byPort.get(portOf(libc, "getpeername", fd) ?? 0);
    return portOf(libc, "getsockname", fd) === port ? connection : undefined;
  }
  return {
    connections,
    look(isEverywhere) {
      for (const fd of isEverywhere ? possibleDescriptors(libc) : expected) {
        const connection = known.has(fd) ? undefined : connectionAt(fd);
        if (connection === undefined) continue;
        known.add(fd);
        found.set(connection, fd);
      }
      return found.size;
    },
    accepted: () =>
      new Map([...found].filter(([connection, fd]) => connectionAt(fd) === connection)),
    // It is polled as before, with another file.
    end: () =>
      giveBack(
        libc,
        { registrations: () => [{ ...registration, inode: taken.substitute }] },
        taken,
      ),
  };
}
