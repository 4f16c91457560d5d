/**
 * Serves connections that were taken out of a native server, by one of this process. It takes no
 * connection; but it accepts those that this process makes to it, and another one can be put below
 * each of them.
 */
import type { Clock } from "../core/adapter.ts";
import { describeError } from "../core/describe_error.ts";
import { GOING_AWAY_FRAME } from "../core/going_away.ts";
import type { AdoptedServer } from "../core/native.ts";
import { createPassingSocket, type Entry, type NativeSocket } from "../core/native_socket.ts";
import { atMost, pause } from "../core/pause.ts";
import type { Libc, Registration } from "../core/socket_adapter.ts";
import { toSocketAddress } from "../linux/addresses.ts";
import { messageHeader, MSG_DONTWAIT, MSG_PEEK } from "../linux/control_messages.ts";
import { connectToOwn, type OwnConnection, type OwnConnections } from "../linux/own_connections.ts";
import { readAgain } from "../linux/polling.ts";
import { socketInode } from "../linux/proc_files.ts";
import { getAddress } from "../linux/socket_options.ts";
import { readRegistrations, scanSockets, type SocketScan } from "../linux/socket_scan.ts";
import { findRegistration, putBelow } from "../linux/transplant.ts";
import type { FoundServer } from "../sockets/native/native_servers.ts";

/** How many are made at once: for so long no other client is accepted. */
const MOST = 500;
/** How long a runtime may take for the handshakes of that many, in milliseconds. */
const ENTER_TIMEOUT_MS = 5_000;
/**
 * After so many turns of the event loop in which none was found at the descriptors that were free,
 * all are looked at: that takes longer than accepting them.
 */
const EXPECT_TURNS = 10;
/** How long no descriptors may be left to begin with, in milliseconds, and the pause between tries. */
const PLACE_TIMEOUT_MS = 2_000;
const PLACE_PAUSE_MS = 50;
/** How long a server may take to accept the next of them, in milliseconds. It takes a few. */
const ACCEPT_TIMEOUT_MS = 2_000;

/** What the arrivals need. */
export interface ArrivalOptions {
  readonly clock: Clock;
  readonly libc: Libc;
  /** The native servers of this process. */
  servers(): readonly AdoptedServer[];
  /** The sockets of the native servers. */
  findAll(scan: SocketScan): readonly FoundServer[];
  warn(message: string): void;
}

/** Connections that are to be served. */
export interface NativeArrivals {
  /**
   * Serves a connection that waits for a request, together with those that come at the same time.
   * The descriptor is the server's from then on.
   */
  add(server: AdoptedServer, fd: number): Promise<unknown>;
  /**
   * Resolves when none is on its way any more: until then a server may have another socket than its
   * own.
   */
  settled(): Promise<unknown>;
  /** How many connections of this process are about to be accepted. */
  readonly pending: number;
  /** No more come from the old process: what was found out for them is forgotten. */
  end(): void;
  /** A connection that the application can go on with. */
  passing(fd: number): NativeSocket;
}

/** One of them. */
interface Arriving {
  readonly fd: number;
  /** It is served, or closed. */
  readonly done: () => void;
  /** How it begins; `undefined` for one that waits for a request. */
  readonly entry: Entry | undefined;
}

/** One for which a connection of this process was accepted. */
interface Placed extends Arriving {
  readonly own: OwnConnection;
  /** The descriptor of the server's side. */
  readonly target: number;
}

/** A WebSocket whose connection is in place, and is not read from yet. */
interface Silent extends Placed {
  /** How it is polled, but for what its client sends. */
  readonly registration: Registration;
}

/** What is known in all arrivals. */
interface Context extends ArrivalOptions {
  /** What was seen of the sockets of this process: thousands arrive in many parts. */
  seen: SocketScan | undefined;
  /** How many connections of this process are about to be accepted. */
  pending: number;
}

const look = (context: Context): SocketScan => context.seen ??= scanSockets(context.libc);

/** No arrivals yet. */
export function createNativeArrivals(options: ArrivalOptions): NativeArrivals {
  const { libc, servers, warn } = options;
  const queues = new Map<AdoptedServer, Arriving[]>();
  const running = new Set<Promise<void>>();
  const context: Context = { ...options, seen: undefined, pending: 0 };

  function add(server: AdoptedServer, fd: number, entry?: Entry): Promise<void> {
    const { promise, resolve: done } = Promise.withResolvers<void>();
    const arriving = { fd, entry, done };
    const queue = queues.get(server);
    if (queue !== undefined) {
      queue.push(arriving);
      return promise;
    }
    const first = [arriving];
    queues.set(server, first);
    const served = serveAll(context, server, first, () => queues.delete(server)).finally(
      () => running.delete(served),
    );
    running.add(served);
    return promise;
  }

  return {
    settled: () => Promise.all(running),
    get pending() {
      return context.pending;
    },
    end: () => context.seen = undefined,
    add,
    passing(fd) {
      return createPassingSocket(fd, (key, entry) => {
        const server = servers().find((server) => server.key === key);
        if (server?.connections !== undefined) return add(server, fd, entry);
        warn(`no server of this process listens at ${key}: its WebSockets are closed`);
        discard(libc, [{ fd, entry, done() {} }]);
        return Promise.resolve();
      }, () => libc.close(fd));
    },
  };
}

function discard(libc: Libc, all: readonly Arriving[]): void {
  for (const { fd, entry, done } of all) {
    if (entry !== undefined) libc.write(fd, GOING_AWAY_FRAME, GOING_AWAY_FRAME.length);
    libc.close(fd);
    entry?.failed();
    done();
  }
}

/**
 * All WebSockets that wait are entered before the first of them is read from: what one client sends
 * to all reaches each.
 */
async function serveAll(
  context: Context,
  server: AdoptedServer,
  queue: Arriving[],
  onEmpty: () => void,
): Promise<void> {
  const { clock, libc, warn } = context;
  for (;;) {
    await pause(clock, 0); // For those that come at the same time.
    if (queue.length === 0) return onEmpty(); // In this turn: one that comes later begins anew.
    const all = queue.splice(0);
    const silent: Silent[] = [];
    try {
      while (all.length > 0) {
        const placed = await placeSome(context, server, all);
        await enter(context, server, placed);
        silent.push(...putAll(libc, server, look(context), placed));
      }
    } catch (error) {
      warn(
        `${server.key}: ${all.length} connections that were on their way are closed: ${
          describeError(error)
        }`,
      );
      discard(libc, all);
    }
    begin(libc, silent);
  }
}

/**
 * The same as `place`. Looks again where something is not as it was a moment ago, and tries for a
 * while where there are no descriptors left.
 */
async function placeSome(
  context: Context,
  server: AdoptedServer,
  all: Arriving[],
): Promise<Placed[]> {
  const { clock } = context;
  const begun = clock.now();
  for (;;) {
    const isNew = context.seen === undefined;
    try {
      return await place(context, server, all);
    } catch (error) {
      if (isNew && clock.now() - begun > PLACE_TIMEOUT_MS) throw error;
      context.seen = undefined;
      if (isNew) await pause(clock, PLACE_PAUSE_MS);
    }
  }
}

/**
 * Has the server accept connections of this process, as many as are needed, or as many as there can
 * be.
 */
async function place(
  context: Context,
  server: AdoptedServer,
  all: Arriving[],
): Promise<Placed[]> {
  const { libc, findAll } = context;
  const scan = look(context);
  const [listener, ...others] =
    findAll(scan).find((found) => found.server === server)?.file.polled ?? [];
  if (listener === undefined || others.length > 0) {
    throw new Error("its socket is not found: are there descriptors left?");
  }
  const own = connectToOwn(libc, scan, listener, Math.min(MOST, all.length));
  if (typeof own === "string") throw new Error(own);
  context.pending += own.connections.length;
  const accepted = await accept(context, own);
  context.pending -= own.connections.length;
  for (const connection of own.connections) {
    if (!accepted.has(connection)) libc.close(connection.client);
  }
  if (accepted.size === 0) throw new Error("it does not accept them");
  return [...accepted].map(([own, target]) => ({ ...all.pop() as Arriving, own, target }));
}

/** Waits until the server has accepted all, and lets it accept from its own socket again. */
async function accept(
  { clock, warn }: ArrivalOptions,
  own: OwnConnections,
): Promise<Map<OwnConnection, number>> {
  const all = own.connections.length;
  let [last, turns] = [clock.now(), 0];
  for (let count = 0; count < all && clock.now() - last < ACCEPT_TIMEOUT_MS;) {
    await pause(clock, 0);
    const found = own.look(++turns % EXPECT_TURNS === 0);
    if (found > count) [count, last, turns] = [found, clock.now(), 0];
  }
  const refusal = own.end();
  if (refusal !== undefined) {
    warn(`it accepts no connections any more: ${refusal}. Start the program again`);
  }
  return own.accepted();
}

/**
 * Completes the handshakes that the application's side needs, and the requests that come before a
 * connection counts as idle. The clients hear nothing of it.
 */
async function enter(
  { clock, libc }: ArrivalOptions,
  { connections }: AdoptedServer,
  placed: readonly Placed[],
): Promise<void> {
  const path = `/${crypto.randomUUID()}`;
  const entering = placed.filter(({ entry }) => entry !== undefined || connections?.asksFirst);
  if (entering.length === 0) return;
  const end = connections?.enter(path, (request: Request, more: unknown) => {
    const { entry } = entering[Number(new URL(request.url).search.slice(1))] ?? {};
    return entry === undefined ? new Response() : entry.upgrade(request, more);
  });
  for (const [i, { entry, own }] of entering.entries()) {
    const bytes = requestFor(`${path}?${i}`, entry && { ...HANDSHAKE, ...entry.headers });
    libc.write(own.client, bytes, bytes.length);
  }
  await atMost(clock, ENTER_TIMEOUT_MS, Promise.all(entering.map(({ entry }) => entry?.opened)));
  // What the server sends until then is for us.
  const begun = clock.now();
  for (let waiting = entering; clock.now() - begun < ENTER_TIMEOUT_MS;) {
    waiting = waiting.filter(({ own }) => !isAnswered(libc, own.client));
    if (waiting.length === 0) break;
    await pause(clock, 0);
  }
  end?.();
}

/**
 * Puts each connection below the one that was accepted for it. So it needs one descriptor, where
 * there may be thousands.
 *
 * @returns The WebSockets. What their clients send waits.
 */
function putAll(
  libc: Libc,
  server: AdoptedServer,
  { epolls }: SocketScan,
  placed: readonly Placed[],
): Silent[] {
  const polled = readRegistrations(libc, epolls);
  return placed.flatMap((one) => {
    const { fd, entry, own, target, done } = one;
    const inode = socketInode(libc, fd);
    const client = toSocketAddress(getAddress(libc, "getpeername", fd) ?? new Uint8Array(2));
    if (client !== undefined) server.connections?.goOn?.(own.address, client);
    const registration = findRegistration(libc, polled, target);
    const refusal = putBelow(libc, polled, target, fd, entry === undefined);
    libc.close(own.client);
    if (
      entry !== undefined && refusal === undefined && typeof registration !== "string" &&
      inode !== undefined
    ) return [{ ...one, registration: { ...registration, inode } }];
    entry?.failed();
    done();
    return [];
  });
}

/** Lets WebSockets begin, unless the runtime has closed one meanwhile. */
function begin(libc: Libc, silent: readonly Silent[]): void {
  for (const { entry, target, registration, done } of silent) {
    if (readAgain(libc, registration, target)) entry?.arrived(target);
    else entry?.failed();
    done();
  }
}

/** The headers of a handshake. */
const HANDSHAKE = {
  "Connection": "Upgrade",
  "Upgrade": "websocket",
  "Sec-WebSocket-Version": "13",
  "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", // Any: nobody looks at the answer.
};

function requestFor(target: string, headers: Readonly<Record<string, string>> = {}): Uint8Array {
  const lines = Object.entries({ "Host": "localhost", ...headers })
    .map(([name, value]) => `${name}: ${value}\r\n`);
  return new TextEncoder().encode(`GET ${target} HTTP/1.1\r\n${lines.join("")}\r\n`);
}

/** Whether the end of an answer's head has come. */
function isAnswered(libc: Libc, client: number): boolean {
  const bytes = new Uint8Array(2_048);
  const message = messageHeader(libc, bytes, new Uint8Array(8));
  const count = libc.recvmsg(client, message.bytes, MSG_PEEK | MSG_DONTWAIT);
  return count === 0 ||
    new TextDecoder().decode(bytes.subarray(0, Math.max(0, count))).includes("\r\n\r\n");
}
