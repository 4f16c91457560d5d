import type { Clock } from "../../core/adapter.ts";
import type { SocketAdapter, SocketAddress } from "../../core/socket_adapter.ts";
import type { BindableServer } from "../../core/token.ts";
import { isSameHost } from "../../linux/addresses.ts";
import type { ProgramContext } from "../../reload/context.ts";
import type { Handover } from "../../reload/handover.ts";
import { type BoundRequest, BoundServer, keyOf } from "./bound_server.ts";
import { IncomingListening } from "./incoming.ts";
import { OutgoingListening } from "./outgoing.ts";

/**
 * The servers of node's kind that the application has bound. Both processes have the same socket in
 * the end, with one queue of connections, so that none can get lost between them. A new process
 * accepts nothing before it is in charge: when it fails, no connection fails with it.
 */
export class ListeningSockets {
  readonly handover: Handover = {
    name: "the bound servers",
    outgoing: (reload) => new OutgoingListening(this, reload),
    incoming: (reload) => new IncomingListening(this, reload),
    isListening: () => this.open().length > 0,
  };
  readonly adapter: SocketAdapter;
  readonly clock: Clock;
  /** The servers, by keys that are the same in every generation. */
  readonly servers: Map<string, BoundServer> = new Map();
  /** Resolves when it is known what the predecessor offers. */
  readonly known: PromiseWithResolvers<void> = Promise.withResolvers();
  /** What the predecessor offers and has not handed over, by keys. */
  offered: ReadonlyMap<string, SocketAddress | undefined> = new Map();
  /** Tells the predecessor that there is a server for one that it offers. */
  claim: (key: string) => void = () => {};
  /** Tells it that there is none any more. */
  unclaim: (key: string) => void = () => {};
  /** Whether this process is not in charge yet. */
  #isWaiting: boolean;
  #release: (() => void) | undefined;

  constructor(adapter: SocketAdapter, { clock, hasPredecessor }: ProgramContext) {
    this.adapter = adapter;
    this.clock = clock;
    this.#isWaiting = hasPredecessor;
    if (!hasPredecessor) this.known.resolve();
  }

  /** Those that listen. */
  open(): [key: string, server: BoundServer][] {
    return [...this.servers].filter(([, { isOpen }]) => isOpen);
  }

  /** Lets a server listen, on the predecessor's socket where that has one for the same address. */
  async bind(server: BindableServer, request: BoundRequest): Promise<void> {
    const { adapter, clock, servers } = this;
    // A server that waits does not listen yet, and only one that listens keeps its process alive.
    if (this.#isWaiting) this.#release ??= clock.hold();
    await this.known.promise;
    const key = keyOf(request, servers);
    const present = servers.get(key);
    if (present !== undefined && !present.isFree) {
      const error = new TypeError(`bind: this process listens on ${key} already`);
      throw Object.assign(error, { code: "EADDRINUSE" });
    }
    const fd = this.#activatedFor(request);
    const inherited = this.offered.get(key);
    const bound = new BoundServer({ adapter, clock, server, request, fd, inherited });
    if (this.offered.has(key)) {
      servers.set(key, bound);
      server.address = () => bound.address ?? null; // Many programs print it at once.
      return this.claim(key);
    }
    if (request.name !== undefined && fd === undefined && request.options.port === undefined) {
      throw new TypeError(
        `bind: no socket of the name ${request.name} was handed to this process, ` +
          "and no port is given",
      );
    }
    servers.set(key, bound);
    try {
      await bound.open();
    } catch (error) {
      if (servers.get(key) === bound) servers.delete(key);
      throw error;
    }
  }

  /** The application has closed a server. One that has not listened yet claims nothing any more. */
  forget(server: BindableServer): void {
    for (const [key, bound] of this.servers) {
      if (bound.server !== server || bound.listener !== undefined) continue;
      bound.release();
      this.servers.delete(key);
      delete (server as { address?: unknown }).address; // See `bind`.
      if (this.#isWaiting) this.unclaim(key);
    }
  }

  /** This process is in charge: it waits for nothing any more. */
  takeCharge(): void {
    this.known.resolve();
    this.#isWaiting = false;
    this.offered = new Map();
    this.#release?.();
  }

  /** Stops listening everywhere. */
  close(): void {
    for (const server of this.servers.values()) server.close();
  }

  /** Whether this process was started with a socket at this path. */
  isActivated(path: string): boolean {
    return this.adapter.activated.some(({ address }) => address === path);
  }

  /** Whether a server listens on this port. */
  has(port: number): boolean {
    return [...this.servers.values()].some(({ address }) => address?.port === port);
  }

  /** The socket that this process was started with for a request, of those that are left. */
  #activatedFor({ name, options: { host, port, path } }: BoundRequest): number | undefined {
    const used = new Set([...this.servers.values()].map(({ fd }) => fd));
    const left = this.adapter.activated.filter(({ fd }) => !used.has(fd));
    if (name !== undefined) return left.find((socket) => socket.name === name)?.fd;
    return left.find(({ address }) => {
      if (typeof address === "string") return address === path;
      if (address === undefined || address.port !== port) return false;
      return isSameHost(host as string | undefined, address.address);
    })?.fd;
  }
}
