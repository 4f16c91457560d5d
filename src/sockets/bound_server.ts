import type { Clock } from "../core/adapter.ts";
import { isGivenUp } from "../core/marks.ts";
import type { HeldSocket, Listener, ListenSource, SocketAdapter, SocketAddress } from "../core/socket_adapter.ts";
import type { BindableServer } from "../core/token.ts";
import { whenFree } from "./when_free.ts";

/** Where a server is to listen on TCP, or on a socket of systemd's. */
export interface BoundRequest {
  /** The name of a socket that the process was started with; sd_listen_fds(3). */
  name?: string | undefined;
  /** The options of server.listen() of node:net. */
  options: Readonly<Record<string, unknown>>;
}

/** Names a request: the same in every generation, also where the kernel chose the port. */
export function keyOf({ name, options: { host, port, path } }: BoundRequest, taken: ReadonlyMap<string, unknown>): string {
  const base = name !== undefined ? `socket ${name}` : path !== undefined ? String(path) : `${host ?? "*"}:${port}`;
  let key = base;
  for (let i = 2; taken.has(key) && Number(port) === 0; i++) key = `${base} #${i}`;
  return key;
}

/** An address that came in a message, or `undefined` for anything else. */
export function parseAddress(value: unknown): SocketAddress | undefined {
  const { address, family, port } = (value ?? {}) as Partial<SocketAddress>;
  return typeof address === "string" && typeof family === "string" && Number.isInteger(port) && Number(port) > 0
    ? { address, family, port: Number(port) }
    : undefined;
}

/** Whether a socket listens at an address of TCP. */
export function isSameAddress(one: SocketAddress | string, other: SocketAddress | undefined): boolean {
  return typeof one === "object" && one.address === other?.address && one.port === other.port;
}

/** A server of this process, and its socket. */
export interface BoundServer {
  readonly server: BindableServer;
  /** Where it listens, or will; `undefined` for a path. */
  readonly address: SocketAddress | undefined;
  /** The descriptor of its socket, where the process was started with that. */
  readonly fd: number | undefined;
  /** Set once the server listens, which a successor's does when it is in charge. */
  readonly listener: Listener | undefined;
  /** Does it listen? The application may have closed the server. */
  readonly isOpen: boolean;
  /** Can the address be used by another server? */
  readonly isFree: boolean;
  /** Does this process keep the socket without accepting from it? While it does, the kernel refuses no connection. */
  readonly isHeld: boolean;
  /** What is sent to another process for the kept socket. */
  readonly heldHandle: unknown;
  /** Keeps a socket that came from the other process. */
  hold(socket: HeldSocket | undefined): void;
  /** Closes the kept socket. */
  release(): void;
  /** Listens on a socket that came from the predecessor, on the kept one, or on one that the process was started with. */
  open(handle?: unknown): Promise<void>;
  /** Listens on a new socket with the same address, as soon as the kernel has closed the other process's. */
  openAnew(): Promise<void>;
  /** Stops accepting, and keeps the socket if possible. Returns whether it stopped. */
  suspend(): Promise<boolean>;
  /** Listens again after `suspend`. */
  resume(): Promise<void>;
  close(): void;
}

/**
 * A server that does not listen yet.
 *
 * @param inherited The address on which the predecessor listens.
 */
export function createBoundServer(
  adapter: SocketAdapter,
  clock: Clock,
  server: BindableServer,
  { options }: BoundRequest,
  descriptor: number | undefined,
  inherited: SocketAddress | undefined,
): BoundServer {
  let fd = descriptor;
  let address = inherited;
  let listener: Listener | undefined;
  let held: HeldSocket | undefined;
  let isPaused = false;

  const anew = (): ListenSource => ({ options: { ...options, ...(address && { port: address.port }) } });
  const source = (): ListenSource => held?.source ?? (fd !== undefined ? { fd } : anew());

  async function listen(source: ListenSource): Promise<void> {
    delete (server as { address?: unknown }).address; // See `bind` in listening_sockets.ts.
    if ("received" in source) held = undefined; // Whether or not that works, the descriptor is not ours any more.
    listener = await adapter.listen(server, source);
    address = listener.address;
    held = undefined;
  }

  const self: BoundServer = {
    server,
    get address() {
      return address;
    },
    get fd() {
      return fd;
    },
    get listener() {
      return listener;
    },
    get isOpen() {
      return listener?.isOpen === true;
    },
    get isFree() {
      return isGivenUp(server) || (listener !== undefined && !listener.isOpen);
    },
    get isHeld() {
      return held !== undefined || isPaused;
    },
    get heldHandle() {
      return held !== undefined && "handle" in held.source ? held.source.handle : undefined;
    },
    hold(socket) {
      held?.release();
      held = socket;
    },
    release() {
      held?.release();
      held = undefined;
    },
    open(handle) {
      if (handle === undefined) return listen(source());
      self.release(); // A server that comes over the channel accepts at once: the kept socket is not needed.
      return listen({ handle });
    },
    openAnew: () => whenFree(clock, () => listen(anew())),
    async suspend() {
      if (listener?.isOpen !== true) return false;
      if (listener.takeable?.pause() === true) return isPaused = true;
      held ??= await listener.hold?.();
      // A socket of systemd's cannot be opened again: this process keeps accepting while it may have to take charge again.
      if (fd !== undefined && held === undefined) return false;
      await listener.letGo?.();
      listener.close();
      return true;
    },
    async resume() {
      if (isPaused) {
        isPaused = false;
        return listener?.takeable?.resume();
      }
      const wasHeld = held !== undefined;
      await whenFree(clock, () => listen(source()));
      if (wasHeld) fd = undefined; // The descriptor has another number now; no new process may inherit the old one.
    },
    close: () => listener?.close(),
  };
  return self;
}
