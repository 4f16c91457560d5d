import type { Channel, Clock } from "../core/adapter.ts";
import type { ServiceAdapter } from "../core/service_adapter.ts";
import type { Handover, OutgoingHandover, OutgoingReload } from "../reload/handover.ts";
import {
  type FromInstance,
  parseToInstance,
  SOCKET,
  type ToInstance,
} from "../protocol/instances.ts";
import type { RunParent } from "./run.ts";
import type { SharedPorts } from "../sockets/reuseport/reuseport.ts";

/**
 * How long a socket waits for its turn to leave, in case an instance that should leave before is
 * gone.
 */
const TURN_TIMEOUT_MS = 5_000;

/** The other instances of this program, and the handover that waits for them. */
export interface Instances extends SharedPorts {
  readonly handover: Handover;
}

/** The connection to `reload-self run`, made when it is needed. */
class ParentLink {
  readonly #adapter: ServiceAdapter;
  readonly #path: string;
  #connection: Promise<Channel> | undefined;
  /** Receives each message, and `undefined` when the connection is lost. */
  receive: (message: ToInstance | undefined) => void = () => {};

  constructor(adapter: ServiceAdapter, path: string) {
    this.#adapter = adapter;
    this.#path = path;
  }

  async send(message: FromInstance): Promise<void> {
    await (await (this.#connection ??= this.#connect())).send(message);
  }

  async #connect(): Promise<Channel> {
    const channel = await this.#adapter.connect(this.#path).catch((cause) => {
      throw new Error(
        "`reload-self run` does not answer: it is gone, or older than 0.5.0. Start it again",
        { cause },
      );
    });
    channel.onMessage((raw) => {
      const message = parseToInstance(raw);
      if (message !== undefined) this.receive(message);
    });
    channel.onClose(() => {
      this.#connection = undefined;
      this.receive(undefined);
    });
    return channel;
  }
}

/**
 * Takes part in a round of reloads.
 *
 * @param isOrdered Whether the new processes are started one after the other. Known when this
 * handover prepares.
 */
function joinRound(
  link: ParentLink,
  isOrdered: () => boolean,
  { signal }: OutgoingReload,
): OutgoingHandover {
  let isRefused = false;
  let passes = false;
  /** Sends a message, and waits for the answer with which this instance may go on. */
  async function ask<T extends "start" | "go" | "keep">(
    question: FromInstance,
    answer: T,
  ): Promise<Extract<ToInstance, { type: T }>> {
    const { promise, resolve, reject } = Promise.withResolvers<ToInstance>();
    signal.addEventListener("abort", () => reject(signal.reason));
    link.receive = (message) => {
      if (message === undefined) reject(new Error("`reload-self run` is gone"));
      else if (message.type === answer) resolve(message);
      else if (message.type === "refuse") {
        isRefused = true;
        reject(new Error(message.message));
      }
    };
    const [message] = await Promise.all([promise, link.send(question)]);
    return message as Extract<ToInstance, { type: T }>;
  }
  return {
    async prepare() {
      await ask({ type: "reloading", ordered: isOrdered(), passes: true }, "start");
    },
    async agree() {
      ({ passes } = await ask({ type: "ready" }, "go"));
    },
    async passed() {
      if (passes) await ask({ type: "passed" }, "keep");
    },
    rollback({ message }) {
      // The instance that failed first has reported that.
      if (!isRefused) link.send({ type: "failed", message }).catch(() => {});
    },
  };
}

/**
 * The other instances of this program, where `reload-self run` keeps several; otherwise
 * `undefined`.
 */
export function createInstances(
  adapter: ServiceAdapter,
  runParent: RunParent | undefined,
  clock: Clock,
): Instances | undefined {
  if (runParent === undefined || !(runParent.supervisor.instances > 1)) return undefined;
  const link = new ParentLink(adapter, `${runParent.supervisor.folder}/${SOCKET}`);
  let isOrdered = false;

  return {
    needOrder: () => isOrdered = true,
    async turn(positions) {
      const [any] = Object.keys(positions);
      const { promise, resolve } = Promise.withResolvers<string | undefined>();
      link.receive = (message) => {
        if (message === undefined) resolve(any);
        else if (message.type === "leave" && message.address in positions) resolve(message.address);
      };
      link.send({ type: "leaving", positions }).catch(() => resolve(any));
      if (any === undefined) return undefined;
      const stop = clock.timer(TURN_TIMEOUT_MS, () => resolve(any));
      const address = await promise;
      stop();
      return address;
    },
    handover: {
      name: "the other instances",
      outgoing: (reload) => joinRound(link, () => isOrdered, reload),
      ready: () => void link.send({ type: "up" }).catch(() => {}),
    },
  };
}
