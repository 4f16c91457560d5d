import type { Channel, Clock, DescriptorChannel, Predecessor } from "../core/adapter.ts";
import { describeError } from "../core/describe_error.ts";
import type { Departure, Handover, IncomingHandover, IncomingReload } from "./handover.ts";
import { createInboxes, type Inboxes } from "./inboxes.ts";
import {
  ABILITIES,
  type FromPredecessor,
  type FromSuccessor,
  pack,
  parseFromPredecessor,
} from "../protocol/reload.ts";

/**
 * How long the old process may be silent on probation, in which it asks several times a second. It
 * may be stopped for a while.
 */
const SILENCE_MS = 60_000;

/** The events of the reload that a new process came from. */
export interface IncomingHandlers {
  /** This process is in charge. Called once. */
  takeOver(predecessor: Departure): void;
  /**
   * Whether this process answers as it should: resolves with what is wrong, if something is.
   * `undefined`: there is no check.
   */
  readonly check: (() => Promise<string | undefined>) | undefined;
  /**
   * The predecessor, which this names, has taken charge again, because this process has failed its
   * check.
   */
  revoke(predecessor: { pid: number; generation: number }): void;
  /** The reload is over: the predecessor will not take charge again. Called once. */
  over(): void;
  /** The predecessor passes on that it was asked to reload. */
  reload(): void;
  /** The predecessor passes on that it was asked to shut down. */
  shutdown(signal: string): void;
  /** Something is wrong that does not keep this process from serving. */
  warn(message: string): void;
}

/** The reload that this process came from. */
export interface JoinedReload {
  /** Tells the old process that this one can take over. */
  ready(): void;
  /** Tells the old process that this one will never be ready. The old process ends it. */
  failed(message: string): void;
  /**
   * Tells the old process that this one, which is in charge, was asked to shut down: its end is no
   * failure.
   */
  stopping(): void;
  /**
   * Takes the reload for over where the old process has said nothing for a long time: it hangs.
   * Called when something has to wait for the end of the reload.
   */
  checkPredecessor(): void;
  /** Resolves when every handover can replace what the old process has offered. */
  readonly allSent: Promise<unknown>;
}

/** The state of the reload that a new process came from. */
interface Joining {
  readonly channel: Channel;
  readonly self: Self;
  readonly handovers: readonly Handover[];
  readonly handlers: IncomingHandlers;
  readonly inboxes: Inboxes;
  readonly offered: PromiseWithResolvers<void>;
  sides: readonly IncomingHandover[];
  /**
   * When the old process asked for a sign of life; `undefined` for one of a version that does not.
   */
  heardAt: number | undefined;
  isInCharge: boolean;
  isOver: boolean;
  isChecked: boolean;
}

/** The new process. */
interface Self {
  readonly clock: Clock;
  readonly pid: number;
  readonly descriptors: DescriptorChannel | undefined;
}

/**
 * The two-phase commit, seen from the new process: say hello, be ready, wait until the old process
 * commits or is gone.
 */
export function joinReload(
  { channel }: Predecessor,
  self: Self,
  handovers: readonly Handover[],
  handlers: IncomingHandlers,
): JoinedReload {
  const joining: Joining = {
    ...{ channel, self, handovers, handlers },
    inboxes: createInboxes(handovers.map(({ name }) => name), (name, error) => {
      handlers.warn(
        `the predecessor has sent something to ${name} that is not understood: ${
          describeError(error)
        }`,
      );
    }),
    offered: Promise.withResolvers(),
    sides: [],
    heardAt: undefined,
    isInCharge: false,
    isOver: false,
    isChecked: false,
  };
  send(joining, { type: "hello", pid: self.pid, abilities: ABILITIES });
  joining.sides = handovers.map(({ name, incoming }) =>
    incoming?.(incomingReload(joining, name)) ?? {}
  );
  channel.onMessage((raw, handle) => receive(joining, parseFromPredecessor(raw), handle));
  channel.onClose(() => {
    takeOver(joining, "gone");
    finish(joining, "gone");
  });
  return {
    ready: () => send(joining, { type: "ready" }),
    failed: (message) => send(joining, { type: "failed", message }),
    stopping: () => send(joining, { type: "stopping" }),
    checkPredecessor: () => checkPredecessor(joining),
    allSent: Promise.all([joining.offered.promise, ...joining.sides.map(({ ready }) => ready)]),
  };
}

/** The reload, as a handover sees it. */
function incomingReload(
  { channel, self, inboxes, offered }: Joining,
  name: string,
): IncomingReload {
  return {
    link: {
      sendsHandles: channel.sendsHandles,
      descriptors: self.descriptors,
      send: (data, handle) => channel.send(pack({ type: "data", name, data }), handle),
      onData: (receive) => inboxes.open(name, receive),
    },
    offered: offered.promise,
  };
}

/** Where the old process is gone nobody is left to hear it; `onClose` does what has to be done. */
function send({ channel }: Joining, message: FromSuccessor): void {
  channel.send(pack(message)).catch(() => {});
}

function receive(joining: Joining, message: FromPredecessor | undefined, handle: unknown): void {
  const { handlers, inboxes, offered, self } = joining;
  switch (message?.type) {
    case "data":
      return void inboxes.put(message.name, message.data, handle);
    case "ask":
      joining.heardAt = self.clock.now();
      return send(joining, { type: "alive", answer: message.number });
    case "offered":
      return offered.resolve();
    case "reload":
      return handlers.reload();
    case "shutdown":
      return handlers.shutdown(message.signal);
    case "commit":
      send(joining, { type: "in-charge", ...(handlers.check !== undefined && { check: true }) });
      return takeOver(joining, "handed over");
    case "check":
      return void check(joining);
    case "revoke":
      return void revoke(joining, message);
    case "over":
      return over(joining, message.reload);
  }
}

/** Lets every handover take a step. A step that fails does not keep the others from theirs. */
function runStep(
  { sides, handovers, handlers }: Joining,
  take: (side: IncomingHandover) => void,
): void {
  sides.forEach((side, i) => {
    try {
      take(side);
    } catch (error) {
      handlers.warn(`${handovers[i]?.name} could not take over: ${describeError(error)}`);
    }
  });
}

function takeOver(joining: Joining, predecessor: Departure): void {
  if (joining.isInCharge) return;
  joining.isInCharge = true;
  joining.offered.resolve();
  runStep(joining, (side) => side.takeOver?.(predecessor));
  joining.handlers.takeOver(predecessor);
}

function over(joining: Joining, reload: boolean): void {
  const { handlers, isInCharge, isChecked } = joining;
  if (!isInCharge) return; // No predecessor retires before it has handed over.
  if (handlers.check !== undefined && !isChecked) {
    handlers.warn(
      "the check was not made: the version of this library in the predecessor does not know it; the next reload makes it",
    );
  }
  if (reload) handlers.reload();
  finish(joining, "handed over");
}

function finish(joining: Joining, predecessor: Departure): void {
  if (joining.isOver) return;
  joining.isOver = true;
  runStep(joining, (side) => side.over?.(predecessor));
  joining.self.descriptors?.close();
  joining.handlers.over();
}

async function revoke(
  joining: Joining,
  { pid, generation }: { pid: number; generation: number },
): Promise<void> {
  joining.isOver = true;
  joining.self.descriptors?.close();
  const steps: (void | Promise<void>)[] = [];
  runStep(joining, (side) => void steps.push(side.revoke?.()));
  await Promise.all(steps);
  joining.handlers.revoke({ pid, generation });
}

async function check(joining: Joining): Promise<void> {
  const { handlers } = joining;
  joining.isChecked = true;
  const error = await handlers.check?.();
  if (!joining.isOver) {
    return send(joining, { type: "checked", ...(error !== undefined && { error }) });
  }
  if (error !== undefined) {
    handlers.warn(`this process does not pass its check, and no other can take charge: ${error}`);
  }
}

function checkPredecessor(joining: Joining): void {
  const { isInCharge, isOver, heardAt, handlers, self: { clock, pid } } = joining;
  if (!isInCharge || isOver || heardAt === undefined || clock.now() - heardAt < SILENCE_MS) return;
  handlers.warn(`the predecessor hangs: the reload that process ${pid} came from counts as over`);
  finish(joining, "gone");
}
