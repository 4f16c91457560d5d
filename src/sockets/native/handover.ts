import { describeError } from "../../core/describe_error.ts";
import type { ReloadErrorCode } from "../../core/error.ts";
import type { AdoptedServer } from "../../core/native.ts";
import { pause } from "../../core/pause.ts";
import type { Libc } from "../../core/socket_adapter.ts";
import { listenAt, parsePlace, placeOf } from "../../linux/places.ts";
import { scanSockets } from "../../linux/socket_scan.ts";
import { giveBack, takeListener, type TakenListener } from "../../linux/transplant.ts";
import type { OfferedAddress } from "../../protocol/handshake.ts";
import {
  parseSentSocket,
  parseSocketClaim,
  type SentSocket,
  type SocketClaim,
} from "../../protocol/sockets.ts";
import type {
  Departure,
  IncomingHandover,
  IncomingReload,
  Link,
  OutgoingHandover,
  OutgoingReload,
} from "../../reload/handover.ts";
import {
  explainMissing,
  type Line,
  openLine,
  receiveDescriptor,
  sendDescriptor,
  whenFree,
} from "../common.ts";
import { type FoundServer, nameOfServer, type NativeHandover } from "./native_servers.ts";

/** The native servers in the old process. */
export class OutgoingNative implements OutgoingHandover {
  readonly #own: NativeHandover;
  readonly #link: Link;
  readonly #line: Line<SocketClaim, SentSocket>;
  #libc: Libc | undefined;
  #found: readonly FoundServer[] = [];
  /** The keys of those that the new process has. */
  readonly #claimed = new Set<string>();
  /** The sockets that were taken from their servers. */
  readonly #taken: TakenListener[] = [];

  constructor(own: NativeHandover, { link }: OutgoingReload) {
    this.#own = own;
    this.#link = link;
    this.#line = openLine(link, parseSocketClaim);
  }

  async prepare(): Promise<void> {
    const { adapter, program: { natives }, warnOnce } = this.#own;
    if (natives.servers.length === 0) return;
    await this.#own.settled();
    const libc = adapter.libc?.() ??
      "the sockets of Deno.serve and Bun.serve cannot be handed over: that takes Linux, and on Deno --allow-net=127.0.0.1, where a new process opens its servers. A reload loses connections, or fails";
    if (typeof libc === "string") return warnOnce(libc);
    this.#libc = libc;
    this.#found = this.#own.look(libc);
  }

  sendsDescriptors(): boolean {
    return this.#found.length > 0;
  }

  native(): OfferedAddress[] {
    return this.#found.map(({ server: { key, reported }, file }) => ({
      kind: "server",
      key,
      reported,
      place: placeOf(this.#libc as Libc, file.polled[0] as number),
    }));
  }

  async offer(): Promise<void> {
    this.#checkOpen();
    if (this.#found.length === 0) return;
    const keys = new Set(this.#found.map(({ server }) => server.key));
    this.#line.onMessage(({ claim }) => void (keys.has(claim) && this.#claimed.add(claim)));
    for (const { server: { key }, file } of this.#found) {
      const number = sendDescriptor(this.#link, key, file.polled[0] as number);
      await this.#line.send({ socket: key, number });
    }
  }

  commit(): void {
    this.#checkOpen();
    for (const { server } of this.#handedOver()) {
      if (server.connections === undefined) server.setClosing(true);
    }
  }

  async handedOver(): Promise<void> {
    const libc = this.#libc;
    if (libc === undefined || this.#claimed.size === 0) return;
    await pause(this.#own.program.clock, 0); // For the events of the accepted connections.
    const scan = scanSockets(libc);
    for (const { server, file: { polled } } of this.#handedOver()) {
      for (const fd of polled) {
        const listener = takeListener(libc, scan, fd);
        if (typeof listener === "object") {
          this.#taken.push(listener);
          this.#own.setInode(server, listener.substitute);
        } else {
          this.#own.warnOnce(
            `${nameOfServer(server)} goes on accepting until this process ends: ${listener}`,
          );
        }
      }
    }
  }

  retire(): void {
    for (const { real } of this.#taken) this.#libc?.close(real);
  }

  rollback(): void {
    const libc = this.#libc;
    const { isCancelled } = this.#own.program.token;
    for (const { server, file: { inode } } of this.#handedOver()) {
      server.setClosing(isCancelled);
      this.#own.setInode(server, inode);
    }
    if (libc === undefined || this.#taken.length === 0) return;
    const scan = scanSockets(libc);
    const outcomes = this.#taken.map((listener) => giveBack(libc, scan, listener));
    const refusals = outcomes.filter((why) => why !== undefined).join(", ");
    if (refusals === "") return;
    throw new Error(`no longer accepting: ${refusals}; start the program again`);
  }

  explain(code: ReloadErrorCode): string | undefined {
    const missing = this.#found.filter(({ server: { key } }) => !this.#claimed.has(key));
    return explainMissing(code, missing.map(({ server }) => nameOfServer(server)));
  }

  /** The new process was told of all that were open when it was started. */
  #checkOpen(): void {
    const { servers } = this.#own.program.natives;
    const stopped = this.#found.find(({ server }) => !servers.includes(server));
    if (stopped === undefined) return;
    throw new Error(`${nameOfServer(stopped.server)} was stopped meanwhile. Reload again`);
  }

  /** The servers whose socket the new process has. */
  #handedOver(): FoundServer[] {
    return this.#found.filter(({ server }) => this.#claimed.has(server.key));
  }
}

/** The native servers in a new process whose predecessor has some. */
export class IncomingNative implements IncomingHandover {
  readonly ready: Promise<void>;
  readonly #own: NativeHandover;
  readonly #libc: Libc | undefined;
  readonly #link: Link;
  readonly #line: Line<SentSocket, SocketClaim>;
  readonly #allClaimed = Promise.withResolvers<void>();
  /** The sockets of the predecessor, by key. */
  readonly #sockets = new Map<string, number>();
  readonly #claimed = new Set<string>();

  constructor(own: NativeHandover, { link, offered }: IncomingReload) {
    const { natives } = own.program;
    this.#own = own;
    this.#libc = own.libc;
    this.#link = link;
    this.#line = openLine(link, parseSentSocket);
    natives.onOpen = (server) => {
      own.activate(server);
      this.#claim();
    };
    this.#line.onMessage((message) => this.#receive(message));
    this.ready = offered.then(() => this.#allClaimed.promise);
  }

  takeOver(predecessor: Departure): void {
    const { natives } = this.#own.program;
    const libc = this.#libc;
    natives.onOpen = (server) => {
      // It is at its private place: the predecessor had this address when this process was started.
      if (libc !== undefined && natives.inherited.has(server.key)) this.#openAlone(libc, server);
      else this.#own.activate(server);
    };
    if (libc === undefined) return;
    const errors: string[] = [];
    const scan = scanSockets(libc); // Right for each server whose descriptor was not replaced yet.
    for (const server of natives.servers.filter(({ key }) => natives.inherited.has(key))) {
      const socket = this.#sockets.get(server.key);
      this.#sockets.delete(server.key);
      try {
        if (socket !== undefined) this.#own.put(libc, scan, server, socket);
        else if (predecessor === "gone") this.#openAlone(libc, server);
      } catch (error) {
        errors.push(describeError(error));
      }
    }
    for (const fd of this.#sockets.values()) libc.close(fd); // Of servers that are no more.
    if (errors.length > 0) throw new Error(errors.join(", "));
  }

  revoke(): void {
    const libc = this.#libc;
    if (libc === undefined) return;
    const { inherited } = this.#own.program.natives;
    const scan = scanSockets(libc);
    for (const { server: { key }, file: { polled } } of this.#own.findAll(libc, scan)) {
      for (const fd of inherited.has(key) ? polled : []) {
        const listener = takeListener(libc, scan, fd);
        if (typeof listener === "object") libc.close(listener.real);
      }
    }
  }

  #receive({ socket: key, number }: SentSocket): void {
    const fd = receiveDescriptor(this.#link, number);
    if (fd === undefined) return;
    if (this.#sockets.has(key) || !this.#own.program.natives.inherited.has(key)) {
      return void this.#libc?.close(fd);
    }
    this.#sockets.set(key, fd);
    this.#claim();
  }

  /** Tells the predecessor of the servers that can have its sockets. */
  #claim(): void {
    const { clock, natives } = this.#own.program;
    if (this.#libc === undefined) return;
    for (const { key } of natives.servers) {
      if (!this.#sockets.has(key) || this.#claimed.has(key)) continue;
      this.#claimed.add(key);
      this.#line.post({ claim: key });
    }
    const isComplete = [...natives.inherited.keys()].every((key) => this.#claimed.has(key));
    if (isComplete) clock.timer(0, this.#allClaimed.resolve);
  }

  #openAlone(libc: Libc, server: AdoptedServer): void {
    const { warn } = this.#own.program;
    this.#listenAnew(libc, server).catch((error) => warn(describeError(error)));
  }

  /**
   * Opens a socket: the predecessor has died before it had sent its own, or the server is opened
   * late.
   */
  async #listenAnew(libc: Libc, server: AdoptedServer): Promise<void> {
    const { adapter, program: { clock, natives } } = this.#own;
    const { path, own } = server;
    const place = parsePlace(natives.inherited.get(server.key)?.place);
    if (path !== undefined) return adapter.files().rename(String(own), path);
    if (server.activated !== undefined) return this.#own.putActivated(libc, server);
    const fd = await whenFree(clock, () => {
      const fd = place && listenAt(libc, place);
      if (fd !== undefined) return fd;
      const error = new Error(`${nameOfServer(server)} cannot be listened on`);
      throw Object.assign(error, { code: "EADDRINUSE" });
    });
    this.#own.put(libc, scanSockets(libc), server, fd);
  }
}
