import { describeError } from "../../core/describe_error.ts";
import type { AdoptedServer } from "../../core/native.ts";
import type { Libc } from "../../core/socket_adapter.ts";
import { listenAt, parsePlace } from "../../linux/places.ts";
import { scanSockets } from "../../linux/socket_scan.ts";
import { takeListener } from "../../linux/transplant.ts";
import { parseSentSocket, type SentSocket, type SocketClaim } from "../../protocol/sockets.ts";
import type { Departure, IncomingHandover, IncomingReload, Link } from "../../reload/handover.ts";
import { type Line, openLine, receiveDescriptor, whenFree } from "../common.ts";
import type { NativeHandover } from "./native_servers.ts";

/** The native servers in a new process whose predecessor has some. */
export class IncomingNative implements IncomingHandover {
  readonly complete: Promise<void>;
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
    this.complete = offered.then(() => this.#allClaimed.promise);
  }

  takeOver(predecessor: Departure): void {
    const { natives, warn } = this.#own.program;
    const libc = this.#libc;
    natives.onOpen = (server) => this.#own.activate(server);
    if (libc === undefined) return;
    const errors: string[] = [];
    const scan = scanSockets(libc); // Right for each server whose descriptor was not replaced yet.
    for (const server of natives.servers.filter(({ key }) => natives.inherited.has(key))) {
      const socket = this.#sockets.get(server.key);
      this.#sockets.delete(server.key);
      try {
        if (socket !== undefined) this.#own.put(libc, scan, server, socket);
        else if (predecessor === "gone") {
          this.#listenAnew(libc, server).catch((error) => warn(describeError(error)));
        }
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

  /** Opens a socket. The predecessor has died before it had sent its own. */
  async #listenAnew(libc: Libc, server: AdoptedServer): Promise<void> {
    const { adapter, program: { clock, natives } } = this.#own;
    const { path, own } = server;
    const place = parsePlace(natives.inherited.get(server.key)?.place);
    if (path !== undefined) return adapter.files().rename(String(own), path);
    if (server.activated !== undefined) return this.#own.putActivated(libc, server);
    const fd = await whenFree(clock, () => {
      const fd = place && listenAt(libc, place);
      if (fd !== undefined) return fd;
      const error = new Error(`${server.key} cannot be listened on`);
      throw Object.assign(error, { code: "EADDRINUSE" });
    });
    this.#own.put(libc, scanSockets(libc), server, fd);
  }
}
