import type { Clock } from "../../core/adapter.ts";
import { isGivenUp } from "../../core/marks.ts";
import type {
  Listener,
  ListenSource,
  RetainedSocket,
  SocketAdapter,
  SocketAddress,
} from "../../core/socket_adapter.ts";
import type { BindableServer } from "../../core/token.ts";
import { freeKey } from "../../resources/free_key.ts";
import { whenFree } from "../common.ts";

/** Where a server is to listen on TCP, or on a socket of systemd's. */
export interface BoundRequest {
  /** The name of a socket that the process was started with; sd_listen_fds(3). */
  name?: string | undefined;
  /** The options of server.listen() of node:net. */
  options: Readonly<Record<string, unknown>>;
}

/** Names a request: the same in every generation, also where the kernel chose the port. */
export function keyOf(
  { name, options: { host, port, path } }: BoundRequest,
  taken: ReadonlyMap<string, unknown>,
): string {
  const address = path !== undefined ? String(path) : `${host ?? "*"}:${port}`;
  const base = name !== undefined ? `socket ${name}` : address;
  return Number(port) === 0 ? freeKey(base, taken) : base;
}

/** What a bound server is made of. */
export interface BoundServerOptions {
  readonly adapter: Pick<SocketAdapter, "listen">;
  readonly clock: Clock;
  readonly server: BindableServer;
  readonly request: BoundRequest;
  /** The descriptor of its socket, where the process was started with one. */
  readonly fd: number | undefined;
  /** The address on which the predecessor listens. */
  readonly inherited: SocketAddress | undefined;
}

/** A server of this process, and its socket. It does not listen before `open`. */
export class BoundServer {
  readonly server: BindableServer;
  readonly #options: BoundServerOptions;
  #address: SocketAddress | undefined;
  #fd: number | undefined;
  #listener: Listener | undefined;
  #retained: RetainedSocket | undefined;
  #isPaused = false;

  constructor(options: BoundServerOptions) {
    this.#options = options;
    this.server = options.server;
    this.#address = options.inherited;
    this.#fd = options.fd;
  }

  /** Where it listens, or will; `undefined` for a path. */
  get address(): SocketAddress | undefined {
    return this.#address;
  }

  /** The descriptor of its socket, where the process was started with that. */
  get fd(): number | undefined {
    return this.#fd;
  }

  /** Set once the server listens, which a successor's does when it is in charge. */
  get listener(): Listener | undefined {
    return this.#listener;
  }

  /** Whether it listens. The application may have closed the server. */
  get isOpen(): boolean {
    return this.#listener?.isOpen === true;
  }

  /** Whether another server can use the address. */
  get isFree(): boolean {
    return isGivenUp(this.server) || (this.#listener !== undefined && !this.#listener.isOpen);
  }

  /**
   * Whether this process retains the socket without accepting from it. While it does, the kernel
   * refuses no connection.
   */
  get isRetained(): boolean {
    return this.#retained !== undefined || this.#isPaused;
  }

  /** What is sent to another process for the retained socket. */
  get retainedHandle(): unknown {
    const source = this.#retained?.source;
    return source !== undefined && "handle" in source ? source.handle : undefined;
  }

  /** Retains a socket that came from the other process. */
  retain(socket: RetainedSocket | undefined): void {
    this.#retained?.release();
    this.#retained = socket;
  }

  /** Closes the retained socket. */
  release(): void {
    this.retain(undefined);
  }

  /**
   * Listens: on a socket that came from the predecessor, on the retained one, or on one that the
   * process was started with.
   */
  open(handle?: unknown): Promise<void> {
    if (handle === undefined) return this.#listen(this.#source());
    // A server that comes over the channel accepts at once: the retained socket is not needed.
    this.release();
    return this.#listen({ handle });
  }

  /** Listens on a new socket with the same address, as soon as the other process's is closed. */
  openAnew(): Promise<void> {
    return whenFree(this.#options.clock, () => this.#listen(this.#newSource()));
  }

  /** Stops accepting, and retains the socket if possible. Returns whether it stopped. */
  async suspend(): Promise<boolean> {
    const listener = this.#listener;
    if (listener?.isOpen !== true) return false;
    if (listener.takeable?.pause() === true) return this.#isPaused = true;
    this.#retained ??= await listener.retain?.();
    // A socket of systemd's cannot be opened again: this process keeps accepting while it may have
    // to take charge again.
    if (this.#fd !== undefined && this.#retained === undefined) return false;
    await listener.letGo?.();
    listener.close();
    return true;
  }

  /** Listens again after `suspend`. */
  async resume(): Promise<void> {
    if (this.#isPaused) {
      this.#isPaused = false;
      return this.#listener?.takeable?.resume();
    }
    const wasRetained = this.#retained !== undefined;
    await whenFree(this.#options.clock, () => this.#listen(this.#source()));
    // The descriptor has another number now; no new process may inherit the old one.
    if (wasRetained) this.#fd = undefined;
  }

  /** Stops accepting. */
  close(): void {
    this.#listener?.close();
  }

  #source(): ListenSource {
    if (this.#retained !== undefined) return this.#retained.source;
    return this.#fd !== undefined ? { fd: this.#fd } : this.#newSource();
  }

  #newSource(): ListenSource {
    const { options } = this.#options.request;
    return { options: { ...options, ...(this.#address && { port: this.#address.port }) } };
  }

  async #listen(source: ListenSource): Promise<void> {
    delete (this.server as { address?: unknown }).address; // See `bind` in listening_sockets.ts.
    // Whether or not that works, the descriptor is not ours any more.
    if ("received" in source) this.#retained = undefined;
    this.#listener = await this.#options.adapter.listen(this.server, source);
    this.#address = this.#listener.address;
    this.#retained = undefined;
  }
}
