import type { ReloadErrorCode } from "../../core/error.ts";
import { pause } from "../../core/pause.ts";
import type { Libc } from "../../core/socket_adapter.ts";
import { placeOf } from "../../linux/places.ts";
import { scanSockets } from "../../linux/socket_scan.ts";
import { giveBack, takeListener, type TakenListener } from "../../linux/transplant.ts";
import type { OfferedAddress } from "../../protocol/handshake.ts";
import { parseSocketClaim, type SentSocket, type SocketClaim } from "../../protocol/sockets.ts";
import type { OutgoingHandover, OutgoingReload } from "../../reload/handover.ts";
import { explainMissing, type Line, openLine, sendDescriptor } from "../common.ts";
import type { FoundServer, NativeHandover } from "./native_servers.ts";

/** The native servers in the old process. */
export class OutgoingNative implements OutgoingHandover {
  readonly #own: NativeHandover;
  readonly #reload: OutgoingReload;
  readonly #line: Line<SocketClaim, SentSocket>;
  #libc: Libc | undefined;
  #found: readonly FoundServer[] = [];
  /** The keys of those that the new process has. */
  readonly #claimed = new Set<string>();
  /** The sockets that were taken from their servers. */
  readonly #taken: TakenListener[] = [];

  constructor(own: NativeHandover, reload: OutgoingReload) {
    this.#own = own;
    this.#reload = reload;
    this.#line = openLine(reload.link, parseSocketClaim);
  }

  async prepare(): Promise<void> {
    const { adapter, program: { natives }, warnOnce } = this.#own;
    if (natives.servers.length === 0) return;
    await this.#own.settled();
    const libc = adapter.libc?.() ??
      "sockets of native servers are handed over on Linux only: a reload may lose connections";
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
    if (this.#found.length === 0) return;
    const keys = new Set(this.#found.map(({ server }) => server.key));
    this.#line.onMessage(({ claim }) => void (keys.has(claim) && this.#claimed.add(claim)));
    for (const { server: { key }, file } of this.#found) {
      const number = sendDescriptor(this.#reload.link, key, file.polled[0] as number);
      await this.#line.send({ socket: key, number });
    }
  }

  commit(): void {
    for (const { server } of this.#handedOver()) {
      if (server.connections === undefined) server.setClosing(true);
    }
  }

  async handedOver(): Promise<void> {
    const libc = this.#libc;
    if (libc === undefined || this.#claimed.size === 0) return;
    await pause(this.#own.program.clock, 0); // For the events of the accepted connections.
    const scan = scanSockets(libc);
    for (const { server: { key }, file: { polled } } of this.#handedOver()) {
      for (const fd of polled) {
        const listener = takeListener(libc, scan, fd);
        if (typeof listener === "object") this.#taken.push(listener);
        else this.#own.warnOnce(`${key} goes on accepting until this process ends: ${listener}`);
      }
    }
  }

  retire(): void {
    for (const { real } of this.#taken) this.#libc?.close(real);
  }

  rollback(): void {
    const libc = this.#libc;
    const { isCancelled } = this.#own.program.token;
    for (const { server } of this.#handedOver()) server.setClosing(isCancelled);
    if (libc === undefined || this.#taken.length === 0) return;
    const scan = scanSockets(libc);
    const outcomes = this.#taken.map((listener) => giveBack(libc, scan, listener));
    const refusals = outcomes.filter((why) => why !== undefined).join(", ");
    if (refusals === "") return;
    throw new Error(`no longer accepting: ${refusals}; start the program again`);
  }

  explain(code: ReloadErrorCode): string | undefined {
    const keys = this.#found.map(({ server }) => server.key);
    return explainMissing(code, keys.filter((key) => !this.#claimed.has(key)));
  }

  /** The servers whose socket the new process has. */
  #handedOver(): FoundServer[] {
    return this.#found.filter(({ server }) => this.#claimed.has(server.key));
  }
}
