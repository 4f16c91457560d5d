import type { DatagramAdapter, DatagramSocket } from "../../core/datagrams.ts";
import { describeError } from "../../core/describe_error.ts";
import type { ReloadErrorCode } from "../../core/error.ts";
import type { InheritedAddress } from "../../core/native.ts";
import { pause } from "../../core/pause.ts";
import type { SharedSocket } from "../../core/shared_socket.ts";
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
import type { Datagrams } from "./datagrams.ts";

/** The datagram sockets in the old process. */
export class OutgoingDatagrams implements OutgoingHandover {
  readonly #own: Datagrams;
  readonly #link: Link;
  readonly #line: Line<SocketClaim, SentSocket>;
  /** Why they cannot be handed over. */
  #refusal: string | undefined;
  #offered: readonly DatagramSocket[] = [];
  /** Those that the new process has. */
  readonly #claimed = new Set<DatagramSocket>();
  /** Whether this process reads no more from what the new one has. */
  #isSuspending = false;

  constructor(own: Datagrams, { link }: OutgoingReload) {
    this.#own = own;
    this.#link = link;
    this.#line = openLine(link, parseSocketClaim);
  }

  prepare(): void {
    const { adapter, program: { runtime }, warnOnce } = this.#own;
    const sockets = this.#own.open();
    if (sockets.length === 0) return;
    this.#refusal = adapter === undefined ? `${runtime} cannot do that` : adapter.refusal();
    if (this.#refusal === undefined) {
      this.#offered = sockets;
      return;
    }
    warnOnce(
      `the datagram socket ${sockets[0]?.key} is not handed over: ${this.#refusal}. A new ` +
        "process can open the port only if the socket is made to share it (`reuseAddr: true`), " +
        "and a reload may lose datagrams",
    );
  }

  sendsSockets(): boolean {
    return this.#offered.length > 0 && this.#own.adapter?.sendsHandles === true;
  }

  sendsDescriptors(): boolean {
    return this.#offered.length > 0 && this.#own.adapter?.sendsHandles !== true;
  }

  native(): OfferedAddress[] {
    return this.#offered.map((socket) => ({
      kind: "datagrams",
      key: socket.key,
      reported: socket.reported(),
      place: this.#own.adapter?.place(socket),
    }));
  }

  offer(): void {
    this.#line.onMessage(({ claim }) => this.#send(claim));
  }

  async commit(): Promise<void> {
    const { clock, options } = this.#own.program;
    if (options.saveState === undefined) return;
    this.#suspend(); // What this process has read is in the state.
    await pause(clock, 0); // For the events of what has been read.
  }

  handedOver(): void {
    this.#suspend();
  }

  rollback(): void {
    const { isEnded, suspended } = this.#own;
    if (isEnded) return;
    const sockets = [...this.#claimed].filter((socket) => suspended.has(socket));
    const refusals = sockets.flatMap((socket) => {
      const refusal = this.#own.resume(socket);
      return refusal === undefined ? [] : [`${socket.key}: ${refusal}`];
    });
    if (refusals.length === 0) return;
    const which = refusals.join(", ");
    throw new Error(`nothing is received any more: ${which}; start the program again`);
  }

  explain(code: ReloadErrorCode): string | undefined {
    if (this.#refusal !== undefined && code === "exit") {
      const keys = this.#own.open().map(({ key }) => key).join(", ");
      return `this process receives on ${keys}, which cannot be handed over: ${this.#refusal}`;
    }
    const missing = this.#offered.filter((socket) => !this.#claimed.has(socket));
    return explainMissing(code, missing.map(({ key }) => key));
  }

  /** Sends the socket that the new process has claimed. */
  async #send(key: string): Promise<void> {
    const socket = this.#offered.find((socket) => socket.key === key && !socket.isClosed);
    const shared = socket && this.#own.adapter?.share(socket);
    if (socket === undefined || shared === undefined) {
      throw new Error(`the socket of ${key} is not there any more`);
    }
    if ("handle" in shared) await this.#line.send({ socket: key }, shared.handle);
    else {
      const number = sendDescriptor(this.#link, key, shared.fd);
      await this.#line.send({ socket: key, number });
    }
    this.#claimed.add(socket);
    if (this.#isSuspending) this.#suspend();
  }

  /** From now on this process does not read from what the new one has. */
  #suspend(): void {
    this.#isSuspending = true;
    for (const socket of this.#claimed) {
      const refusal = socket.isClosed ? undefined : this.#own.suspend(socket);
      if (refusal === undefined) continue;
      this.#own.warnOnce(`${socket.key} is read by both processes until this one ends: ${refusal}`);
    }
  }
}

/** The datagram sockets in a new process whose predecessor has some. */
export class IncomingDatagrams implements IncomingHandover {
  readonly ready: Promise<void>;
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
    this.ready = offered.then(() => this.#allTaken.promise);
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
    this.#own.program.warn(`${socket.key} receives nothing: ${refusal}. Start the program again`);
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
