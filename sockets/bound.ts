import type { Clock } from "../core/adapter.ts";
import { describeError } from "../core/error.ts";
import type { Link, Participant } from "../core/participant.ts";
import type { HeldSocket, Listener, ListenSource, SocketAdapter, SocketAddress } from "../core/socket_adapter.ts";
import type { BindableServer } from "../core/token.ts";
import { notListening } from "./missing.ts";
import { pause } from "../core/pause.ts";

/** What `bind` is asked for: where to listen on TCP. */
export interface BoundRequest {
  /** The name of a socket that the process was started with; sd_listen_fds(3). */
  name?: string;
  /** What server.listen() of node:net takes. */
  options: Readonly<Record<string, unknown>>;
}

/** The participant, and the way to bind a server. */
export interface Bound {
  readonly participant: Participant;
  /** Lets a server listen, on the predecessor's socket where it has one for the same address. */
  bind(server: BindableServer, request: BoundRequest): Promise<void>;
  /** Was this process started with a socket at this path? */
  isActivated(path: string): boolean;
  /** Stops listening everywhere. */
  close(): void;
  /** Do we listen on this port? */
  has(port: number): boolean;
}

/** A server of this process. */
interface Entry {
  readonly server: BindableServer;
  readonly options: Readonly<Record<string, unknown>>;
  /** Listens, from the moment that this process is in charge. */
  listener: Listener | undefined;
  /** The descriptor of the socket that this process was started with, where it is one of those. */
  fd: number | undefined;
  /**
   * The socket, when nobody accepts from it here: in the new process until it is in charge, and in the old one as long as it may have to
   * take charge again. While somebody has it, the kernel refuses no connection.
   */
  held: HeldSocket | undefined;
  address: SocketAddress | undefined;
}

/** How long the kernel may take to close the sockets of a process that was killed, and how often to try. */
const DYING = 5_000;
const AGAIN = 10;

/** What the predecessor has: the request that it was bound for, and the address that came of it. */
type Offer = Map<string, SocketAddress | undefined>;

/** Names what was asked for: the same in every generation, also where the kernel chose the port. */
function keyOf({ name, options: { host, port, path } }: BoundRequest, taken: ReadonlyMap<string, unknown>): string {
  const base = name !== undefined ? `socket ${name}` : path !== undefined ? String(path) : `${host ?? "*"}:${port}`;
  let key = base;
  for (let i = 2; taken.has(key) && Number(port) === 0; i++) key = `${base} #${i}`;
  return key;
}

function parseAddress(value: unknown): SocketAddress | undefined {
  const { address, family, port } = (value ?? {}) as Partial<SocketAddress>;
  return typeof address === "string" && typeof family === "string" && Number.isInteger(port) && Number(port) > 0
    ? { address, family, port: Number(port) }
    : undefined;
}

/**
 * The participant for servers of node's kind. Both processes have the same socket in the end, with one queue of connections, so that
 * none can get lost between them. The new process has it when it is ready, and not before: until then it accepts nothing, and
 * when it fails, it takes nothing with it.
 */
export function createBound(adapter: SocketAdapter, clock: Clock, hasPredecessor: boolean): Bound {
  const entries = new Map<string, Entry>();
  /** In the new process: resolves when it is known what the old one has. */
  const known = Promise.withResolvers<void>();
  const complete = Promise.withResolvers<void>();
  let offer: Offer = new Map();
  let toPredecessor: Link | undefined;
  if (!hasPredecessor) known.resolve();
  /** In the old process: what the new one has asked for. */
  let claimed = new Set<string>();
  /** What it holds already. */
  let kept = new Set<string>();
  /** Where we have stopped listening, so that it can be the only one. */
  const stopped = new Set<string>();
  let hasRead = Promise.withResolvers<void>();
  let answer = Promise.withResolvers<unknown>();
  let toSuccessor: Link | undefined;

  /** A server that waits does not listen yet, and only one that listens keeps its process alive. */
  let isWaiting = hasPredecessor;
  let release: (() => void) | undefined;

  async function open(entry: Entry, source: ListenSource): Promise<void> {
    const { server } = entry as { server: { address?: unknown } };
    delete server.address;
    entry.listener = await adapter.listen(entry.server, source);
    entry.address = entry.listener.address;
  }

  /** A new socket for the same address. */
  const anew = ({ options, address }: Entry) => ({ options: { ...options, ...(address && { port: address.port }) } });

  /** Listens on what a process had that has just died: the kernel closes its channel first, and its sockets a moment later. */
  async function openWhenFree(entry: Entry, source: ListenSource): Promise<void> {
    for (const begun = clock.now();;) {
      try {
        return await open(entry, source);
      } catch (error) {
        if ((error as { code?: unknown }).code !== "EADDRINUSE" || clock.now() - begun > DYING) throw error;
      }
      await pause(clock, AGAIN);
    }
  }

  /** Says something to the new process, and waits until it has done it. Resolves with the socket that came back. */
  async function ask(data: object, handle?: unknown): Promise<unknown> {
    answer = Promise.withResolvers();
    answer.promise.catch(() => {});
    await toSuccessor?.send(data, handle);
    return await answer.promise;
  }

  /** What to listen on when this process is in charge, where the predecessor cannot send it any more. */
  const sourceOf = (entry: Entry): ListenSource =>
    entry.held?.source ?? (entry.fd !== undefined ? { fd: entry.fd } : anew(entry));

  /** Stops listening, but holds the socket. */
  async function stop(key: string, entry: Entry): Promise<void> {
    const { listener } = entry;
    if (listener?.isOpen !== true) return;
    entry.held ??= await listener.hold?.();
    // One of systemd's cannot be had again: this process stays there as long as it may be needed.
    if (entry.fd !== undefined && entry.held === undefined) return;
    await listener.letGo?.();
    listener.close();
    stopped.add(key);
  }

  /** Listens again where we had stopped. */
  async function resume(key: string): Promise<void> {
    const entry = entries.get(key) as Entry;
    await openWhenFree(entry, sourceOf(entry));
    if (entry.held !== undefined) entry.fd = undefined; // What has that number now is not what a new process may inherit.
    entry.held = undefined;
  }

  function releaseAll(): void {
    for (const entry of entries.values()) {
      entry.held?.release();
      entry.held = undefined;
    }
  }

  /** Lets a server that waits know its address already: programs tell it in their first line. */
  function wait(key: string, entry: Entry): void {
    entries.set(key, entry);
    entry.server.address = () => entry.address ?? null;
    toPredecessor?.send({ claim: key, holds: adapter.held !== undefined }).catch(() => {});
    if ([...offer.keys()].every((key) => entries.has(key))) clock.timer(0, complete.resolve);
  }

  /** Gives the new process a socket before it may accept from it: should this one be killed, it has not to be opened anew. */
  function lend(link: Link, key: string): void {
    const { listener, fd } = entries.get(key) as Entry;
    if (fd === undefined && listener?.inert !== undefined) link.send({ key, hold: true }, listener.inert).catch(() => {});
  }

  /** The socket that systemd made for a request, if there is one left. */
  function activatedFor({ name, options: { host, port, path } }: BoundRequest): number | undefined {
    const used = new Set([...entries.values()].map(({ fd }) => fd));
    const free = adapter.activated.filter(({ fd }) => !used.has(fd));
    if (name !== undefined) return free.find((socket) => socket.name === name)?.fd;
    return free.find(({ address }) =>
      typeof address === "string"
        ? address === path
        : address !== undefined && address.port === port && (host === undefined || host === address.address)
    )?.fd;
  }

  function close(): void {
    for (const { listener } of entries.values()) listener?.close();
  }

  const participant: Participant = {
    name: "the bound servers",
    sendsSockets: () => [...entries.values()].some(({ fd, listener }) => fd === undefined && listener?.isOpen !== false),
    prepare() {
      claimed = new Set(); // A new process that hangs before it says hello has claimed nothing.
    },
    isListening: () => [...entries.values()].some(({ listener }) => listener?.isOpen),
    async handedOver() {
      // In a turn of its own, in which everything that has been accepted has also been heard of.
      await pause(clock, 0);
      await Promise.all([...entries].map(([key, entry]) => stop(key, entry)));
    },
    retire() {
      releaseAll();
      stopped.clear();
      close();
    },
    inherit(link, offered) {
      toPredecessor = link;
      link.onData(async (data, handle) => {
        const { sockets, key, isFree, hold } = data as { sockets?: unknown; key?: unknown; isFree?: unknown; hold?: unknown };
        if (Array.isArray(sockets)) {
          offer = new Map(sockets.map(({ key, address }) => [String(key), parseAddress(address)]));
          known.resolve();
        }
        const entry = entries.get(String(key));
        if (entry === undefined || entry.listener !== undefined) return;
        if (hold === true) {
          entry.held = adapter.held?.(handle);
          if (entry.held !== undefined) link.send({ holds: key }).catch(() => {});
          return;
        }
        try {
          if (isFree === true) await openWhenFree(entry, anew(entry));
          else if (handle === undefined) await open(entry, sourceOf(entry));
          else {
            // A server that comes over the channel accepts at once: it is the one to listen with.
            entry.held?.release();
            await open(entry, { handle });
          }
          entry.held = undefined;
          await link.send({ done: true }, adapter.held && (entry.listener as Listener | undefined)?.inert);
        } catch (error) {
          await link.send({ done: true, error: `${key}: ${describeError(error)}` }).catch(() => {});
        }
      });
      return offered.then(() => {
        known.resolve();
        if (offer.size === 0) return;
        link.send({ read: true }).catch(() => {});
        return complete.promise;
      });
    },
    succeed(predecessor) {
      known.resolve();
      isWaiting = false;
      offer = new Map();
      release?.();
      if (predecessor === "handed over") return;
      // Its sockets are gone with it, but for those that we were started with.
      for (const entry of entries.values()) {
        if (entry.listener !== undefined) continue;
        openWhenFree(entry, sourceOf(entry)).catch((error) => entry.server.emit("error", error));
        entry.held = undefined;
      }
    },
    explain(code) {
      const missing = [...entries].filter(([key, { listener }]) => listener?.isOpen && !claimed.has(key));
      return notListening(code, missing.map(([key]) => key));
    },
    async offer(link) {
      toSuccessor = link;
      kept = new Set();
      stopped.clear();
      hasRead = Promise.withResolvers();
      const sockets = [...entries].filter(([, { listener }]) => listener?.isOpen).map(([key, { address }]) => ({
        key,
        address,
      }));
      const keys = new Set(sockets.map(({ key }) => key));
      link.onData((data, handle) => {
        const { claim, holds, done, error, read } = data as Record<string, unknown>;
        if (read === true) hasRead.resolve();
        if (typeof claim === "string" && keys.has(claim)) {
          claimed.add(claim);
          if (holds === true) lend(link, claim);
        }
        if (typeof holds === "string" && claimed.has(holds)) kept.add(holds);
        if (done === true && error === undefined) answer.resolve(handle);
        else if (done === true) answer.reject(new Error(`the new process cannot listen on ${error}`));
      });
      if (sockets.length > 0) await link.send({ sockets });
    },
    async rollback() {
      const keys = [...stopped];
      stopped.clear();
      const results = await Promise.allSettled(keys.map(resume));
      releaseAll();
      const errors = results.flatMap((result, i) =>
        result.status === "rejected" ? [`${keys[i]}: ${describeError(result.reason)}`] : []
      );
      if (errors.length > 0) throw new Error(`no longer listening on ${errors.join(", ")}; start the program again`);
    },
    async commit({ signal }) {
      // Deno 2.9 loses a socket that comes in one piece with another message: only a process that has read all is sent one.
      if (claimed.size > 0) await hasRead.promise;
      for (const key of claimed) {
        signal.throwIfAborted();
        const entry = entries.get(key) as Entry;
        const { listener, fd } = entry;
        if (adapter.sendsHandles || fd !== undefined) {
          const back = await ask({ key }, fd === undefined && !kept.has(key) ? listener?.handle : undefined);
          entry.held = adapter.held?.(back);
        } else {
          stopped.add(key);
          listener?.close();
          await ask({ key, isFree: true });
        }
      }
    },
  };

  return {
    participant,
    async bind(server, request) {
      if (isWaiting) release ??= clock.hold();
      await known.promise;
      const key = keyOf(request, entries);
      const present = entries.get(key);
      if (present !== undefined && (present.listener === undefined || present.listener.isOpen)) {
        throw new TypeError(`bind: this process listens on ${key} already`);
      }
      const { options } = request;
      const fd = activatedFor(request);
      const entry: Entry = { server, options, fd, held: undefined, listener: undefined, address: undefined };
      if (offer.has(key)) {
        entry.address = offer.get(key);
        return wait(key, entry);
      }
      if (request.name !== undefined && fd === undefined && options.port === undefined) {
        throw new TypeError(`bind: no socket of the name ${request.name} was handed to this process, and no port is given`);
      }
      entries.set(key, entry);
      try {
        await open(entry, fd !== undefined ? { fd } : { options });
      } catch (error) {
        entries.delete(key);
        throw error;
      }
    },
    isActivated: (path) => adapter.activated.some(({ address }) => address === path),
    close,
    has: (port) => [...entries.values()].some(({ address }) => address?.port === port),
  };
}
