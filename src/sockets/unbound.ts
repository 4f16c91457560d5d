/**
 * Servers that listen without `token.bind()`: a new process cannot take them over, and they keep
 * the old one from ending. They are not handed over, and this says so where it matters.
 */
import type { ReloadErrorCode } from "../core/error.ts";
import type { ServiceAdapter } from "../core/service_adapter.ts";
import type { OwnSocket } from "../core/socket_adapter.ts";
import { whenCancelled } from "../core/when_cancelled.ts";
import { parseUnbound, type UnboundFromPredecessor } from "../protocol/sockets.ts";
import type { ProgramContext } from "../reload/context.ts";
import type {
  Handover,
  IncomingHandover,
  IncomingReload,
  OutgoingHandover,
  OutgoingReload,
} from "../reload/handover.ts";
import { createWarnOnce, type Line, openLine } from "./common.ts";

/** What following the end of a process takes. */
export interface LingeringOptions {
  readonly program: Pick<ProgramContext, "token" | "warn">;
  /** The listening sockets that nobody hands over. */
  unbound(): readonly OwnSocket[];
  /** What to write for such a socket. */
  advise(sockets: readonly OwnSocket[]): string;
  /** Takes the socket from its server. Returns whether that was possible. */
  readonly stopListening: ((socket: OwnSocket) => boolean) | undefined;
  /** What keeps this process from ending, where the runtime shows it. */
  readonly holders: ServiceAdapter["holders"] | undefined;
  /** Calls back again and again, without keeping the process alive. */
  readonly every: ServiceAdapter["every"] | undefined;
}

/** What the handover needs. */
export interface UnboundOptions extends Omit<LingeringOptions, "unbound" | "advise"> {
  /** The listening sockets that this process has made, where they can be listed. */
  listening(): readonly OwnSocket[] | undefined;
  /** Whether a socket is handed over. */
  isBound(socket: OwnSocket): boolean;
  /** Whether this process hands any server over. */
  handsOver(): boolean;
  /**
   * Whether the ports that cannot be shared are named by the handover of native servers, which
   * knows more of them.
   */
  areNamed(): boolean;
  /** Whether the application waits for a state, which comes when this process is in charge. */
  awaitsState(): boolean;
}

/** How often a new process looks whether it listens, in milliseconds. */
const CHECK_MS = 20;
/** How long after its last task a cancelled process may take to close its servers. */
export const CLOSE_MS = 1_000;
/** When a process that stays is reported first, in milliseconds: before a container is killed. */
export const FIRST_REMIND_MS = 5_000;
/** How often it is reported from then on, in milliseconds. */
export const REMIND_MS = 60_000;

/** The servers that are not bound. */
export class Unbound {
  readonly handover: Handover = {
    name: "the servers that are not bound",
    outgoing: (reload) => this.#outgoing(reload),
    incoming: (reload) => this.#incoming(reload),
    isListening: () => this.#sockets().length > 0,
  };
  readonly #options: UnboundOptions;
  readonly #warnOnce: (message: string) => void;

  constructor(options: UnboundOptions) {
    this.#options = options;
    this.#warnOnce = createWarnOnce(options.program.warn);
    followEnd({ ...options, unbound: () => this.#sockets(), advise });
  }

  #sockets(): OwnSocket[] {
    return this.#options.listening()?.filter((socket) => !this.#options.isBound(socket)) ?? [];
  }

  /** Those that no other handover names. */
  #unnamed(): OwnSocket[] {
    const isUnnamed = !this.#options.areNamed();
    return this.#sockets().filter(({ address }) => typeof address === "string" || isUnnamed);
  }

  #outgoing({ link }: OutgoingReload): OutgoingHandover {
    const line: Line<never, UnboundFromPredecessor> = openLine(link);
    return {
      offer: () => {
        if (this.#options.handsOver() || this.#sockets().length === 0) return;
        line.post({ mustListen: true });
      },
      retire: () => {
        const sockets = this.#unnamed();
        if (sockets.length === 0) return;
        this.#warnOnce(
          `it listens on ${namesOf(sockets)} by itself: that is not handed over, and clients ` +
            `that wait there may be lost. Write ${insteadFor(sockets)}`,
        );
      },
      explain: (code) => this.#explain(code),
    };
  }

  #explain(code: ReloadErrorCode): string | undefined {
    const isTimeout = code === "timeout" && !this.#options.handsOver();
    if (code !== "exit" && code !== "refused" && !isTimeout) return undefined;
    const sockets = code === "exit" ? this.#unnamed() : this.#sockets();
    if (sockets.length === 0) return undefined;
    return `this process listens on ${namesOf(sockets)} by itself, and no second process can: ` +
      `write ${insteadFor(sockets)}`;
  }

  /**
   * Where the old process listens, but hands no server over, the new one has to listen somewhere as
   * well: one that ignores the error of its server would be ready without one. One that waits for
   * the state listens later, as below `deno serve`.
   */
  #incoming({ link, offered }: IncomingReload): IncomingHandover {
    const { awaitsState, every, listening, program: { token } } = this.#options;
    const listens = Promise.withResolvers<void>();
    let mustListen = false;
    let stop: (() => void) | undefined;
    openLine(link, parseUnbound).onMessage(() => void (mustListen = true));
    return {
      ready: offered.then(() => {
        if (!mustListen || every === undefined) return;
        // This alone does not keep the process alive: one that has nothing more to do ends, and the
        // reload has failed at once.
        stop = every(CHECK_MS, () => {
          if (listening()?.length === 0 && !token.isCancelled && !awaitsState()) return;
          stop?.();
          listens.resolve();
        });
        return listens.promise;
      }),
      takeOver: () => stop?.(),
    };
  }
}

/**
 * Follows the end of this process. One that was replaced or told to end, and does neither leave nor
 * say why, is told here what keeps it.
 */
export function followEnd(options: LingeringOptions): void {
  const { program: { token, warn }, unbound, advise, stopListening, holders, every } = options;

  whenCancelled(token, async (reason) => {
    await token.drained();
    const isReplaced = reason.kind === "reload";
    const successor = isReplaced ? reason.pid : undefined;
    function after(milliseconds: number, callback: () => void): void {
      let stop: (() => void) | undefined = undefined;
      stop = every?.(milliseconds, () => {
        stop?.();
        callback();
      });
    }
    after(CLOSE_MS, () => {
      const sockets = unbound();
      if (sockets.length === 0) return;
      // Its clients would be served by what was replaced, for as long as it lives.
      const isTaken = isReplaced &&
        sockets.map((socket) => stopListening?.(socket) === true).every(Boolean);
      const rest = `. It accepts nothing there any more: pid ${successor} is in charge`;
      warn(advise(sockets) + (isTaken ? rest : ""));
    });
    function remind(since: string): void {
      const what = countNames(holders?.() ?? []);
      const holder = what === ""
        ? "Something keeps it: a timer, a connection, a server"
        : `What keeps it: ${what}`;
      warn(
        `it was ${isReplaced ? "replaced" : "told to end"}, has been done with its work for ` +
          `${since}, and has not left. ${holder}. Close that after \`await token.drained()\`, or call ` +
          "`process.exit()`",
      );
    }
    after(FIRST_REMIND_MS, () => remind(`${FIRST_REMIND_MS / 1_000} seconds`));
    let minutes = 0;
    every?.(REMIND_MS, () => remind(`${++minutes} ${minutes === 1 ? "minute" : "minutes"}`));
  });
}

/** Counts equal names: `3 Timeout, TCPSocketWrap`. */
export function countNames(names: readonly string[]): string {
  const counts = new Map<string, number>();
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  return [...counts].map(([name, count]) => count === 1 ? name : `${count} ${name}`).join(", ");
}

function namesOf(sockets: readonly OwnSocket[]): string {
  return sockets.map(({ address }) => {
    if (typeof address === "string") return address;
    const host = address.family === "IPv6" ? `[${address.address}]` : address.address;
    return `${host}:${address.port}`;
  }).join(", ");
}

/** What to write instead of the call that has opened the first socket. */
function insteadFor([first]: readonly OwnSocket[]): string {
  const address = first?.address;
  const where = typeof address === "string"
    ? `path: ${JSON.stringify(address)}`
    : `port: ${address?.port}`;
  return `\`await token.bind(server, { ${where} })\` instead of \`server.listen(...)\``;
}

function advise(sockets: readonly OwnSocket[]): string {
  return `it still listens on ${namesOf(sockets)}, which may keep it from ending. Write ` +
    `${insteadFor(sockets)}, or close the server after \`await token.cancelled()\``;
}
