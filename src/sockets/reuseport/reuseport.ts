import { describeError } from "../../core/describe_error.ts";
import type { Libc } from "../../core/socket_adapter.ts";
import {
  countListeners,
  inOpeningOrder,
  type OwnListener,
  ownListeners,
} from "../../linux/listeners.ts";
import { unsteer } from "../../linux/steering.ts";
import type { Positions } from "../../protocol/instances.ts";
import { parseSteering } from "../../protocol/sockets.ts";
import type { ProgramContext } from "../../reload/context.ts";
import type { Handover, IncomingHandover, IncomingReload } from "../../reload/handover.ts";
import { createWarnOnce, openLine } from "../common.ts";
import { type Group, place } from "./groups.ts";
import { OutgoingReuseport } from "./outgoing.ts";

/** The agreement of instances that share ports. */
export interface SharedPorts {
  /**
   * Must be called before anything is started: the new processes have to open their sockets one
   * process after the other.
   */
  needOrder(): void;
  /**
   * Resolves with an address when the last socket of this process may leave there, because it is
   * the last of all processes. With empty `positions` it only reports that all have left.
   */
  turn(positions: Positions): Promise<string | undefined>;
}

/** What the handover needs. */
export interface ReuseportOptions {
  readonly program: Pick<ProgramContext, "clock" | "warn">;
  /** The descriptors of this process, where they can be listed. */
  descriptors(): number[] | undefined;
  /** The C library, why it cannot be called, or `undefined` where there is nothing to steer. */
  libc(): Libc | string | undefined;
  /** Whether this port is bound by `token.bind()`: another handover takes care of it then. */
  isBound(port: number): boolean;
  /** The other instances of this program, which listen on the same ports. */
  readonly shared: SharedPorts | undefined;
}

/**
 * Servers that cannot take over a socket: `Deno.serve` and `Bun.serve` with `reusePort`. The new
 * process opens sockets of its own on the same addresses. A program in the kernel steers each
 * connection: to the old process until the new one is ready, to the new one from then on.
 */
export class Reuseport {
  readonly handover: Handover;
  readonly options: ReuseportOptions;
  readonly warnOnce: (message: string) => void;
  /** Whether this process has such servers. Known from its first reload on. */
  hasServers = false;
  /** The positions of our sockets in each group, in the order in which they were opened. */
  readonly #positions = new Map<string, readonly number[]>();

  constructor(options: ReuseportOptions) {
    this.options = options;
    this.warnOnce = createWarnOnce(options.program.warn);
    this.handover = {
      name: "the steering of native servers",
      outgoing: (reload) => new OutgoingReuseport(this, reload),
      incoming: (reload) => this.#incoming(reload),
      isListening: () => this.hasServers,
      ...(options.shared !== undefined && { ready: () => this.#findPositions() }),
    };
  }

  /** The groups of sockets that listen on the same address. Warns where others are among them. */
  findGroups(libc: Libc, listeners: readonly OwnListener[]): Group[] {
    const counts = countListeners(libc);
    const groups: Group[] = [];
    for (const [key, own] of Map.groupBy(inOpeningOrder(libc, listeners), ({ key }) => key)) {
      const old = counts.get(key) ?? own.length;
      const name = own[0]?.name as string;
      if (old === own.length || this.options.shared !== undefined) {
        groups.push({ key, name, own: place(own, this.#positions.get(key)), old });
        continue;
      }
      this.warnOnce(
        `${name} is shared with ${old - own.length} sockets of other processes: a reload may ` +
          "lose connections. Let one process listen there, with as many threads as it needs",
      );
    }
    return groups;
  }

  #incoming({ link, offered }: IncomingReload): IncomingHandover {
    const { shared, program: { warn } } = this.options;
    const complete = Promise.withResolvers<void>();
    let isSteered = false;
    /** Of several instances the one whose predecessor had the last old sockets. */
    let isLast = false;
    openLine(link, parseSteering).onMessage((message) => {
      if ("addresses" in message) isSteered = true;
      else if ("complete" in message) complete.resolve();
      else if ("isLast" in message) isLast ||= message.isLast;
      else for (const [key, own] of message.positions) this.#positions.set(key, own);
    });
    return {
      ready: offered.then(() => isSteered ? complete.promise : undefined),
      over: () => {
        // While other instances have old sockets in the groups, the predecessor's steering stays.
        if (shared !== undefined && !isLast) return;
        try {
          this.#endSteering();
        } catch (error) {
          warn(`steering was not ended: ${describeError(error)}`);
        }
      },
    };
  }

  /** Ends the predecessor's steering: all sockets of this process get connections alike. */
  #endSteering(): void {
    const libc = this.options.libc();
    if (typeof libc !== "object") return;
    for (const { fd, reusePort } of ownListeners(libc, this.options.descriptors())) {
      if (reusePort) unsteer(libc, fd);
    }
  }

  /**
   * Several instances are started one after the other: the sockets of each are the last ones when
   * it is ready.
   */
  #findPositions(): void {
    const libc = this.options.libc();
    if (typeof libc !== "object") return;
    const counts = countListeners(libc);
    const listeners = ownListeners(libc, this.options.descriptors());
    for (const [key, own] of Map.groupBy(listeners, ({ key }) => key)) {
      const first = (counts.get(key) ?? own.length) - own.length;
      this.#positions.set(key, own.map((_, i) => first + i));
    }
  }
}
