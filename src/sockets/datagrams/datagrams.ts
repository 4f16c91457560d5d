/**
 * Datagram sockets. All generations have the same socket, with one queue, from which only one
 * process reads: none is lost between two processes, and none is read twice. What comes while
 * neither reads waits in the socket, up to the size of its buffer (SO_RCVBUF).
 */
import type { DatagramAdapter, DatagramSocket } from "../../core/datagrams.ts";
import { DEFAULT_DRAIN_TIMEOUT_MS } from "../../core/options.ts";
import { pause } from "../../core/pause.ts";
import { whenCancelled } from "../../core/when_cancelled.ts";
import type { ProgramContext } from "../../reload/context.ts";
import type { Handover, IncomingHandover, IncomingReload } from "../../reload/handover.ts";
import { createWarnOnce } from "../common.ts";
import { IncomingDatagrams, OutgoingDatagrams } from "./handover.ts";

/** How long a process that shuts down reads on: what has come before is read. */
const LAST_READS_MS = 20;
/** How long a socket stays that nobody needs: node:dgram looks up each address before it sends. */
const LAST_SENDS_MS = 20;

/** The datagram sockets of this process. */
export class Datagrams {
  readonly handover: Handover = {
    name: "the datagram sockets",
    outgoing: (reload) => new OutgoingDatagrams(this, reload),
    incoming: (reload) => this.#incoming(reload),
    isListening: () => this.open().length > 0,
  };
  readonly adapter: DatagramAdapter | undefined;
  readonly program: ProgramContext;
  readonly warnOnce: (message: string) => void;
  /** Those from which this process does not read. */
  readonly suspended: WeakSet<DatagramSocket> = new WeakSet();
  /** Whether this process has read its last datagram. */
  isEnded = false;
  readonly #open = new WeakSet<DatagramSocket>();

  constructor(adapter: DatagramAdapter | undefined, program: ProgramContext) {
    this.adapter = adapter;
    this.program = program;
    this.warnOnce = createWarnOnce(program.warn);
    const { clock, datagrams, token } = program;
    for (const socket of datagrams.sockets) this.follow(socket);
    datagrams.onAdd = (socket) => this.follow(socket);
    whenCancelled(token, ({ kind }) => {
      if (datagrams.sockets.length === 0) return;
      const read = kind === "reload" ? Promise.resolve() : pause(clock, LAST_READS_MS);
      token.track(read.then(() => this.#end()), { name: "the datagrams that have come" });
      void this.#close();
    });
  }

  /** Those that are open. */
  open(): DatagramSocket[] {
    return this.program.datagrams.sockets.filter((socket) => this.#open.has(socket));
  }

  /** Notices when a socket is open. */
  follow(socket: DatagramSocket): void {
    socket.opened.then(() => void this.#open.add(socket), () => {});
  }

  /** Opens a socket of node:dgram, on the predecessor's where that has one of the same address. */
  async bind(socket: unknown, where: { port: number; host: string | undefined }): Promise<void> {
    const { adapter, program: { datagrams, runtime } } = this;
    if (adapter === undefined) {
      throw new TypeError(`bind: there are no datagram sockets here (${runtime})`);
    }
    const type = String((socket as { type?: unknown }).type);
    const { key, inherited } = datagrams.place({ type, hostname: where.host, port: where.port });
    const bindable = adapter.bindable(socket, key, where);
    datagrams.add(bindable);
    if (inherited === undefined) await bindable.bind();
    else await bindable.opened;
  }

  /** Reads nothing more from a socket. Returns why that is not possible. */
  suspend(socket: DatagramSocket): string | undefined {
    const refusal = this.suspended.has(socket) ? undefined : this.adapter?.suspend(socket);
    if (refusal === undefined) this.suspended.add(socket);
    return refusal;
  }

  /** Reads from a socket again. Returns why that is not possible. */
  resume(socket: DatagramSocket): string | undefined {
    this.suspended.delete(socket);
    return socket.isClosed ? undefined : this.adapter?.resume(socket);
  }

  /** Stops reading. A socket that cannot be told to wait is closed: what comes would not end. */
  #end(): void {
    this.isEnded = true;
    for (const socket of this.open()) {
      const refusal = this.suspend(socket);
      socket.end?.();
      if (refusal !== undefined) socket.close();
    }
  }

  /** Closes the sockets when nothing is under way any more that may need them for an answer. */
  async #close(): Promise<void> {
    const { clock, datagrams, options, token } = this.program;
    await token.drained({ timeout: options.drainTimeout ?? DEFAULT_DRAIN_TIMEOUT_MS });
    await pause(clock, LAST_SENDS_MS);
    for (const socket of datagrams.sockets) socket.close();
  }

  #incoming(reload: IncomingReload): IncomingHandover {
    const { adapter, program: { datagrams } } = this;
    if (datagrams.inherited.size === 0 || adapter === undefined) return {};
    return new IncomingDatagrams(this, adapter, reload);
  }
}
