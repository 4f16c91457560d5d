import { describeError } from "../../core/describe_error.ts";
import { ReloadError, type ReloadErrorCode } from "../../core/error.ts";
import { atMost, pause } from "../../core/pause.ts";
import type { SocketAddress } from "../../core/socket_adapter.ts";
import {
  type BoundClaim,
  type BoundFromPredecessor,
  type BoundFromSuccessor,
  parseBoundFromSuccessor,
} from "../../protocol/sockets.ts";
import type { OutgoingHandover, OutgoingReload } from "../../reload/handover.ts";
import { explainMissing, type Line, nameOf, openLine } from "../common.ts";
import type { BoundServer } from "./bound_server.ts";
import type { ListeningSockets } from "./listening_sockets.ts";

/** How long a new process that has failed its check may take to give a socket back. */
const BACK_TIMEOUT_MS = 1_000;

/** The bound servers in the old process. */
export class OutgoingListening implements OutgoingHandover {
  readonly #own: ListeningSockets;
  readonly #reload: OutgoingReload;
  readonly #line: Line<BoundFromSuccessor, BoundFromPredecessor>;
  #offered: ReadonlySet<string> = new Set();
  /** The servers that the new process has, by their keys. */
  readonly #claimed = new Set<string>();
  /** Those whose socket it has already, without accepting from it. */
  readonly #shared = new Set<string>();
  /** Those that this process has closed, so that the new process alone accepts. */
  readonly #suspended = new Set<string>();
  readonly #hasRead = Promise.withResolvers<void>();
  #answer = Promise.withResolvers<unknown>();

  constructor(own: ListeningSockets, reload: OutgoingReload) {
    this.#own = own;
    this.#reload = reload;
    this.#line = openLine(reload.link, parseBoundFromSuccessor);
  }

  sendsSockets(): boolean {
    const servers = [...this.#own.servers.values()];
    return servers.some(({ fd, isFree }) => fd === undefined && !isFree);
  }

  sendsDescriptors(): boolean {
    const servers = this.#own.open();
    return servers.some(([, { fd, listener }]) =>
      fd === undefined && listener?.takeable !== undefined
    );
  }

  async offer(): Promise<void> {
    const sockets = this.#own.open().map(([key, { address }]) => ({ key, address }));
    this.#offered = new Set(sockets.map(({ key }) => key));
    this.#line.onMessage((message, handle) => this.#receive(message, handle));
    if (sockets.length > 0) await this.#line.send({ sockets });
  }

  async commit(): Promise<void> {
    // Deno 2.9 loses a socket that arrives in one piece with another message: the new process must
    // have read all before.
    if (this.#claimed.size > 0) await this.#hasRead.promise;
    for (const key of this.#claimed) {
      this.#reload.signal.throwIfAborted();
      await this.#handOver(key);
    }
  }

  async handedOver(): Promise<void> {
    await pause(this.#own.clock, 0); // For the events of the connections that were accepted.
    await Promise.all([...this.#own.servers].map(async ([key, server]) => {
      if (await server.suspend()) this.#suspended.add(key);
    }));
  }

  retire(): void {
    for (const server of this.#own.servers.values()) server.release();
    this.#own.close();
  }

  async rollback(reason: Error): Promise<void> {
    const { servers } = this.#own;
    if (reason instanceof ReloadError && reason.code === "check") {
      for (const key of [...this.#suspended]) await this.#takeBack(key);
    }
    const keys = [...this.#suspended];
    const results = await Promise.allSettled(keys.map((key) => servers.get(key)?.resume()));
    for (const server of servers.values()) server.release();
    const errors = results.flatMap((result, i) =>
      result.status === "rejected" ? [`${keys[i]}: ${describeError(result.reason)}`] : []
    );
    if (errors.length === 0) return;
    throw new Error(`no longer listening on ${errors.join(", ")}; start the program again`);
  }

  explain(code: ReloadErrorCode): string | undefined {
    const missing = this.#own.open().filter(([key]) => !this.#claimed.has(key));
    return explainMissing(code, missing.map(([key, { address }]) => nameOf(key, address?.port)));
  }

  #receive(message: BoundFromSuccessor, handle: unknown): void {
    if ("read" in message) return this.#hasRead.resolve();
    if ("claim" in message) return this.#shareEarly(message);
    if ("unclaim" in message) {
      this.#claimed.delete(message.unclaim);
      return void this.#shared.delete(message.unclaim);
    }
    if ("done" in message) {
      if (message.error === undefined) return this.#answer.resolve(handle);
      const why = `the new process cannot listen on ${message.error}`;
      return this.#answer.reject(new Error(why));
    }
    if (this.#claimed.has(message.holds)) this.#shared.add(message.holds);
  }

  /**
   * Gives the new process a socket before it may accept from it: should this process be killed, the
   * socket stays open. A process of a version up to 0.6 does not receive descriptors.
   */
  #shareEarly({ claim: key, holds, takes }: BoundClaim): void {
    if (!this.#offered.has(key)) return;
    this.#claimed.add(key);
    const { link } = this.#reload;
    const { listener, fd } = this.#server(key);
    if (fd !== undefined || listener === undefined) return;
    const own = takes ? listener.takeable?.descriptor() : undefined;
    const number = own === undefined ? undefined : link.descriptors?.send([own]);
    if (number !== undefined) {
      this.#shared.add(key);
      this.#line.post({ key, hold: true, number });
    } else if (holds && link.sendsHandles && listener.rawHandle !== undefined) {
      this.#line.post({ key, hold: true }, listener.rawHandle);
    }
  }

  async #handOver(key: string): Promise<void> {
    const server = this.#server(key);
    const { listener, fd } = server;
    if (fd !== undefined || this.#reload.link.sendsHandles) {
      const isSent = fd === undefined && !this.#shared.has(key);
      const handle = isSent ? listener?.rawHandle ?? await listener?.handle : undefined;
      const back = await this.#ask({ key }, handle);
      server.retain(this.#own.adapter.retain?.(back));
      if (this.#reload.signal.aborted) server.release(); // All was rolled back meanwhile.
    } else {
      // No socket can be sent over this channel. The new process opens one as soon as this one is
      // closed.
      this.#suspended.add(key);
      server.close();
      await this.#ask({ key, isFree: true });
    }
  }

  /** Resolves when the new process has answered, with the socket that it sent back. */
  async #ask(message: BoundFromPredecessor, handle?: unknown): Promise<unknown> {
    this.#answer = Promise.withResolvers();
    this.#answer.promise.catch(() => {}); // Rejects perhaps before it is awaited.
    await this.#line.send(message, handle);
    return await this.#answer.promise;
  }

  /** Gets back a socket that only the new process has, which has failed its check and accepts. */
  async #takeBack(key: string): Promise<void> {
    const server = this.#server(key);
    if (server.isRetained || server.fd !== undefined) return;
    if (await this.#openReturned(server, this.#ask({ key, back: true }))) {
      return void this.#suspended.delete(key);
    }
    this.#line.post({ key, close: true });
    this.#retainLost(server);
  }

  /** Listens on a socket when it comes. Returns whether the server listens. */
  async #openReturned(server: BoundServer, returned: Promise<unknown>): Promise<boolean> {
    let isLate = false;
    const given = returned.then((socket) => {
      if (!isLate) return socket === undefined ? undefined : server.open(socket);
      (socket as { close(): void } | undefined)?.close(); // It accepts, and nobody serves.
    });
    // A rejection: the new process is gone, and its sockets are closed.
    await atMost(this.#own.clock, BACK_TIMEOUT_MS, given.catch(() => {}));
    isLate = true;
    return server.isOpen;
  }

  /** Deno 2.9 may lose the message with the socket (denoCarries), but not the socket. */
  #retainLost(server: BoundServer): void {
    const listening = this.#own.adapter.listening();
    const lost = listening?.find(({ address }) => isSameAddress(address, server.address));
    if (lost !== undefined) server.retain({ source: { fd: lost.fd }, release() {} });
  }

  #server(key: string): BoundServer {
    return this.#own.servers.get(key) as BoundServer;
  }
}

/** Whether a socket listens at an address of TCP. */
function isSameAddress(one: SocketAddress | string, other: SocketAddress | undefined): boolean {
  return typeof one === "object" && one.address === other?.address && one.port === other.port;
}
