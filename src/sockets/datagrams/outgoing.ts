import type { DatagramSocket } from "../../core/datagrams.ts";
import type { ReloadErrorCode } from "../../core/error.ts";
import { pause } from "../../core/pause.ts";
import type { OfferedAddress } from "../../protocol/handshake.ts";
import { parseSocketClaim, type SentSocket, type SocketClaim } from "../../protocol/sockets.ts";
import type { OutgoingHandover, OutgoingReload } from "../../reload/handover.ts";
import { explainMissing, type Line, openLine, sendDescriptor } from "../common.ts";
import type { Datagrams } from "./datagrams.ts";

/** The datagram sockets in the old process. */
export class OutgoingDatagrams implements OutgoingHandover {
  readonly #own: Datagrams;
  readonly #reload: OutgoingReload;
  readonly #line: Line<SocketClaim, SentSocket>;
  /** Why they cannot be handed over. */
  #refusal: string | undefined;
  #offered: readonly DatagramSocket[] = [];
  /** Those that the new process has. */
  readonly #claimed = new Set<DatagramSocket>();
  /** Whether this process reads no more from what the new one has. */
  #isSuspending = false;

  constructor(own: Datagrams, reload: OutgoingReload) {
    this.#own = own;
    this.#reload = reload;
    this.#line = openLine(reload.link, parseSocketClaim);
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
      `the datagram socket ${sockets[0]?.key} is not handed over: ${this.#refusal}. A new process ` +
        "can open the port only if the socket is made to share it (`reuseAddr: true`), and a reload " +
        "may lose datagrams",
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
      const number = sendDescriptor(this.#reload.link, key, shared.fd);
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
      const which = `${socket.key} is read by both processes until this one ends`;
      this.#own.warnOnce(`${which}: ${refusal}`);
    }
  }
}
