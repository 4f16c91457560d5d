import type { DatagramAdapter, DatagramSocket } from "../../core/datagrams.ts";
import { describeError } from "../../core/describe_error.ts";
import type { InheritedAddress } from "../../core/native.ts";
import type { SharedSocket } from "../../core/shared_socket.ts";
import { parseSentSocket, type SentSocket, type SocketClaim } from "../../protocol/sockets.ts";
import type { Departure, IncomingHandover, IncomingReload, Link } from "../../reload/handover.ts";
import { type Line, openLine, receiveDescriptor, whenFree } from "../common.ts";
import type { Datagrams } from "./datagrams.ts";

/** The datagram sockets in a new process whose predecessor has some. */
export class IncomingDatagrams implements IncomingHandover {
  readonly complete: Promise<void>;
  readonly #own: Datagrams;
  readonly #adapter: DatagramAdapter;
  readonly #link: Link;
  readonly #line: Line<SentSocket, SocketClaim>;
  readonly #allTaken = Promise.withResolvers<void>();
  /** Those that wait for the predecessor's socket of their key. */
  readonly #waiting = new Map<string, { socket: DatagramSocket; address: InheritedAddress }>();
  readonly #taken = new Set<DatagramSocket>();
  #isInCharge = false;
  /** Whether the predecessor cannot be asked any more. */
  #isOver = false;
  /** A socket from which nothing is read does not keep Node from ending. */
  #release: (() => void) | undefined;

  constructor(own: Datagrams, adapter: DatagramAdapter, { link, offered }: IncomingReload) {
    const { datagrams } = own.program;
    this.#own = own;
    this.#adapter = adapter;
    this.#link = link;
    this.#line = openLine(link, parseSentSocket);
    datagrams.onAdd = (socket) => this.#claim(socket);
    for (const socket of datagrams.sockets) this.#claim(socket);
    this.#line.onMessage((message, handle) => this.#receive(message, handle));
    this.complete = offered.then(() => this.#allTaken.promise);
  }

  takeOver(): void {
    this.#isInCharge = true;
    for (const socket of this.#taken) this.#begin(socket);
    if (this.#waiting.size === 0) this.#release?.();
  }

  over(predecessor: Departure): void {
    this.#isOver = true;
    this.#openRest();
    // A predecessor that has handed over has closed the others by now, or is about to.
    if (predecessor === "handed over") this.#own.program.datagrams.inherited.clear();
  }

  /** Asks the predecessor for its socket of the same key, if it has one. */
  #claim(socket: DatagramSocket): void {
    const { clock, datagrams: { inherited } } = this.#own.program;
    this.#own.follow(socket);
    const { key } = socket;
    const address = inherited.get(key);
    if (address === undefined) return;
    inherited.delete(key);
    this.#waiting.set(key, { socket, address });
    if (this.#isOver) return this.#openRest();
    this.#release ??= clock.hold();
    this.#line.post({ claim: key });
  }

  #receive({ socket: key, number }: SentSocket, handle: unknown): void {
    const fd = receiveDescriptor(this.#link, number);
    if (fd === undefined && (handle === undefined || handle === null)) return;
    const shared: SharedSocket = fd !== undefined ? { fd } : { handle };
    const { socket } = this.#waiting.get(key) ?? {};
    if (socket === undefined || socket.isClosed) return this.#adapter.discard(shared);
    this.#take(socket, shared);
  }

  #take(socket: DatagramSocket, shared: SharedSocket): void {
    const { clock, datagrams: { inherited } } = this.#own.program;
    this.#waiting.delete(socket.key);
    try {
      this.#adapter.open(socket, shared);
    } catch (error) {
      socket.fail(error);
      throw error;
    }
    this.#own.suspended.add(socket);
    this.#taken.add(socket);
    if (this.#isInCharge) this.#begin(socket);
    if (inherited.size === 0 && this.#waiting.size === 0) clock.timer(0, this.#allTaken.resolve);
  }

  /** Begins to read. */
  #begin(socket: DatagramSocket): void {
    const refusal = this.#own.isEnded ? undefined : this.#own.resume(socket);
    if (refusal === undefined) return;
    const why = `${socket.key} receives nothing: ${refusal}`;
    this.#own.program.warn(`${why}. Start the program again`);
  }

  /** Opens those that wait, at the addresses of a predecessor that does not answer any more. */
  #openRest(): void {
    const { clock, warn } = this.#own.program;
    for (const { socket, address } of this.#waiting.values()) {
      whenFree(clock, () => this.#adapter.openAnew(socket, address)).catch((error) => {
        warn(`${socket.key} cannot be opened: ${describeError(error)}`);
        socket.fail(error);
      });
    }
    this.#waiting.clear();
    this.#release?.();
  }
}
