import { describeError } from "../../core/describe_error.ts";
import type { RetainedSocket } from "../../core/socket_adapter.ts";
import {
  type BoundFromPredecessor,
  type BoundFromSuccessor,
  type OfferedSocket,
  parseBoundFromPredecessor,
} from "../../protocol/sockets.ts";
import type { Departure, IncomingHandover, IncomingReload, Link } from "../../reload/handover.ts";
import { type Line, openLine, receiveDescriptor } from "../common.ts";
import type { BoundServer } from "./bound_server.ts";
import type { ListeningSockets } from "./listening_sockets.ts";

/** The bound servers in the new process. */
export class IncomingListening implements IncomingHandover {
  readonly ready: Promise<void>;
  readonly #own: ListeningSockets;
  readonly #link: Link;
  readonly #line: Line<BoundFromPredecessor, BoundFromSuccessor>;
  readonly #allClaimed = Promise.withResolvers<void>();
  /** The servers that accept as soon as this process is in charge. */
  readonly #ready = new Set<BoundServer>();

  constructor(own: ListeningSockets, { link, offered }: IncomingReload) {
    this.#own = own;
    this.#link = link;
    this.#line = openLine(link, parseBoundFromPredecessor);
    own.claim = (key) => this.#claim(key);
    own.unclaim = (key) => this.#line.post({ unclaim: key });
    this.#line.onMessage((message, handle) => this.#receive(message, handle));
    this.ready = offered.then(() => {
      own.known.resolve();
      if (own.offered.size === 0) return;
      this.#line.post({ read: true });
      return this.#allClaimed.promise;
    });
  }

  takeOver(predecessor: Departure): void {
    this.#own.takeCharge();
    const isGone = predecessor === "gone";
    for (const server of this.#own.servers.values()) {
      if (server.listener !== undefined || !(isGone || this.#ready.has(server))) continue;
      // Its sockets are closed with it, except those that this process has as well.
      const opened = isGone ? server.resume() : server.open();
      opened.catch((error) => server.server.emit("error", error));
    }
  }

  revoke(): void {
    this.#own.close();
  }

  #claim(key: string): void {
    const holds = this.#own.adapter.retain !== undefined;
    this.#line.post({ claim: key, holds, takes: this.#link.descriptors !== undefined });
    // The application may close it in the same turn: it only wanted to know whether the port is
    // free.
    if (!this.#hasClaimedAll()) return;
    this.#own.clock.timer(0, () => this.#hasClaimedAll() && this.#allClaimed.resolve());
  }

  #hasClaimedAll(): boolean {
    const { offered, servers } = this.#own;
    return [...offered.keys()].every((key) => servers.get(key)?.isFree === false);
  }

  #receive(message: BoundFromPredecessor, handle: unknown): Promise<void> | void {
    if ("sockets" in message) return this.#learn(message.sockets);
    const { key } = message;
    const server = this.#own.servers.get(key);
    if (server === undefined) return;
    if ("back" in message) return this.#giveBack(server);
    if ("close" in message) return server.close(); // What was given back has not come.
    if (server.listener !== undefined) return;
    if (!("hold" in message)) return void this.#take(key, server, message.isFree === true, handle);
    server.retain(this.#retained(message.number) ?? this.#own.adapter.retain?.(handle));
    if (server.isRetained) this.#line.post({ holds: key });
  }

  #learn(sockets: readonly OfferedSocket[]): void {
    this.#own.offered = new Map(sockets.map(({ key, address }) => [key, address]));
    this.#own.known.resolve();
  }

  async #take(key: string, server: BoundServer, isFree: boolean, handle: unknown): Promise<void> {
    const { adapter } = this.#own;
    try {
      // The predecessor gets one back before this process accepts: what that has accepted would be
      // lost with it, should the commit fail.
      const retained = adapter.retain?.(handle);
      if (retained !== undefined) server.retain(retained);
      // A predecessor that has shared a descriptor keeps its own.
      if (server.isRetained && (retained !== undefined || handle === undefined)) {
        this.#ready.add(server);
        return await this.#line.send({ done: true }, server.retainedHandle);
      }
      await (isFree ? server.openAnew() : server.open(handle));
      // Where sockets can be retained, the predecessor gets one back, for as long as it may have to
      // take charge again.
      await this.#line.send({ done: true }, adapter.retain && server.listener?.rawHandle);
    } catch (error) {
      this.#line.post({ done: true, error: `${key}: ${describeError(error)}` });
    }
  }

  /** Gives a socket back to the predecessor, or makes room for it. */
  async #giveBack(server: BoundServer): Promise<void> {
    const { listener } = server;
    const { sendsHandles } = this.#link;
    if (!sendsHandles) server.close();
    const handle = sendsHandles ? listener?.rawHandle ?? listener?.handle : undefined;
    await this.#line.send({ done: true }, handle);
    server.close();
  }

  /** The socket that came as a descriptor under a number. */
  #retained(number: number | undefined): RetainedSocket | undefined {
    const fd = receiveDescriptor(this.#link, number);
    if (fd === undefined) return undefined;
    return { source: { received: fd }, release: () => this.#link.descriptors?.discard([fd]) };
  }
}
