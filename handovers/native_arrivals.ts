/**
 * Serves connections that were taken out of a native server, by one of this process. It takes no connection; but it accepts those that this
 * process makes to it, and another one can be put below each of them.
 */
import type { Clock } from "../core/adapter.ts";
import type { AdoptedServer } from "../core/native.ts";
import { pause } from "../core/pause.ts";
import type { Libc } from "../core/socket_adapter.ts";
import { toSocketAddress } from "../linux/addresses.ts";
import { connectToOwn, type OwnConnection, type OwnConnections } from "../linux/own_connections.ts";
import { getAddress } from "../linux/socket_options.ts";
import { scanSockets, type SocketScan } from "../linux/socket_scan.ts";
import { putBelow } from "../linux/transplant.ts";
import type { FoundServer } from "./native_servers.ts";

/** How many are made at once: for so long no other client is accepted. */
const MOST = 250;
/** How long a server may take to accept them, in milliseconds. It takes a few. */
const ACCEPT_TIMEOUT_MS = 2_000;

/** What the arrivals need. */
export interface ArrivalOptions {
  readonly clock: Clock;
  readonly libc: Libc;
  /** The sockets of the native servers. */
  findAll(scan: SocketScan): readonly FoundServer[];
  warn(message: string): void;
}

/** Connections that are to be served. */
export interface NativeArrivals {
  /** Serves a connection, together with those that come at the same time. The descriptor is the server's from then on. */
  add(server: AdoptedServer, fd: number): void;
}

/** No arrivals yet. */
export function createNativeArrivals({ clock, libc, findAll, warn }: ArrivalOptions): NativeArrivals {
  const queues = new Map<AdoptedServer, number[]>();

  function discard(fds: number[]): void {
    for (const fd of fds.splice(0)) libc.close(fd);
  }

  /** Waits until the server has accepted all, and lets it accept from its own socket again. */
  async function accept(own: OwnConnections): Promise<Map<OwnConnection, number>> {
    const begun = clock.now();
    do await pause(clock, 0); while (
      own.accepted().size < own.connections.length && clock.now() - begun < ACCEPT_TIMEOUT_MS
    );
    const refusal = own.end();
    if (refusal !== undefined) warn(`it accepts no connections any more: ${refusal}. Start the program again`);
    return own.accepted();
  }

  async function serveSome(server: AdoptedServer, fds: number[]): Promise<void> {
    const scan = scanSockets(libc);
    const [listener, ...others] = findAll(scan).find((found) => found.server === server)?.file.polled ?? [];
    if (listener === undefined || others.length > 0) throw new Error("its socket is not found");
    const own = connectToOwn(libc, scan, listener, fds.length);
    if (typeof own === "string") throw new Error(own);
    const accepted = await accept(own);
    const after = scanSockets(libc);
    for (const [connection, target] of accepted) {
      const fd = fds.pop();
      if (fd === undefined) break;
      const client = toSocketAddress(getAddress(libc, "getpeername", fd) ?? new Uint8Array(2));
      if (client !== undefined) server.connections?.goOn?.(connection.address, client);
      putBelow(libc, after, target, fd);
    }
    for (const { client } of own.connections) libc.close(client);
    if (accepted.size === 0) throw new Error("it does not accept them");
  }

  async function serveAll(server: AdoptedServer, queue: number[]): Promise<void> {
    for (;;) {
      await pause(clock, 0); // For those that come at the same time.
      if (queue.length === 0) break;
      const some = queue.splice(0, MOST);
      try {
        await serveSome(server, some);
        queue.unshift(...some); // Those for which no connection could be made.
      } catch (error) {
        warn(`${server.key}: ${some.length + queue.length} connections of the predecessor are closed: ${String(error)}`);
        discard(some);
        discard(queue);
      }
    }
    queues.delete(server);
  }

  return {
    add(server, fd) {
      const queue = queues.get(server);
      if (queue !== undefined) return void queue.push(fd);
      const first = [fd];
      queues.set(server, first);
      serveAll(server, first);
    },
  };
}
