import type { Clock, DescriptorChannel, Predecessor } from "../core/adapter.ts";
import { describeError } from "../core/describe_error.ts";
import type { Departure, Handover, IncomingHandover } from "./handover.ts";
import { createInboxes } from "./inboxes.ts";
import { ABILITIES, type FromSuccessor, pack, parseFromPredecessor } from "../protocol/reload.ts";

/** How long the old process may be silent on probation, in which it asks several times a second. It may be stopped for a while. */
const SILENCE_MS = 60_000;

/** The events of the reload that a new process came from. */
export interface IncomingHandlers {
  /** This process is in charge. Called once. */
  takeOver(predecessor: Departure): void;
  /** Whether this process answers as it should: resolves with what is wrong, if something is. `undefined`: there is no check. */
  readonly check: (() => Promise<string | undefined>) | undefined;
  /** The predecessor, which this names, has taken charge again, because this process has failed its check. */
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
  /** Tells the old process that this one, which is in charge, was asked to shut down: its end is no failure. */
  stopping(): void;
  /**
   * Takes the reload for over where the old process has said nothing for a long time: it hangs. Called when something has to wait for the end
   * of the reload.
   */
  checkPredecessor(): void;
  /** Resolves when every handover can replace what the old process has offered. */
  readonly allSent: Promise<unknown>;
}

/** The two-phase commit, seen from the new process: say hello, be ready, wait until the old process commits or is gone. */
export function joinReload(
  { channel }: Predecessor,
  { clock, pid, descriptors }: { clock: Clock; pid: number; descriptors: DescriptorChannel | undefined },
  handovers: readonly Handover[],
  handlers: IncomingHandlers,
): JoinedReload {
  const inboxes = createInboxes(handovers.map(({ name }) => name), (name, error) => {
    handlers.warn(`the predecessor has sent something to ${name} that is not understood: ${describeError(error)}`);
  });
  const offered = Promise.withResolvers<void>();
  /** When the old process asked for a sign of life; `undefined` for one of a version that does not. */
  let heardAt: number | undefined;
  let isInCharge = false;
  let isOver = false;
  let isChecked = false;

  /** Where the old process is gone nobody is left to hear it; `onClose` does what has to be done. */
  function send(message: FromSuccessor): void {
    channel.send(pack(message)).catch(() => {});
  }

  send({ type: "hello", pid, abilities: ABILITIES });
  const sides = handovers.map(({ name, incoming }) =>
    incoming?.({
      link: {
        sendsHandles: channel.sendsHandles,
        descriptors,
        send: (data, handle) => channel.send(pack({ type: "data", name, data }), handle),
        onData: (receive) => inboxes.open(name, receive),
      },
      offered: offered.promise,
    }) ?? {}
  );

  /** Lets every handover take a step. A step that fails does not keep the others from theirs. */
  function runStep(take: (side: IncomingHandover) => void): void {
    sides.forEach((side, i) => {
      try {
        take(side);
      } catch (error) {
        handlers.warn(`${handovers[i]?.name} could not take over: ${describeError(error)}`);
      }
    });
  }

  function takeOver(predecessor: Departure): void {
    if (isInCharge) return;
    isInCharge = true;
    offered.resolve();
    runStep((side) => side.takeOver?.(predecessor));
    handlers.takeOver(predecessor);
  }

  function finish(predecessor: Departure): void {
    if (isOver) return;
    isOver = true;
    runStep((side) => side.over?.(predecessor));
    descriptors?.close();
    handlers.over();
  }

  async function revoke({ pid, generation }: { pid: number; generation: number }): Promise<void> {
    isOver = true;
    descriptors?.close();
    const steps: (void | Promise<void>)[] = [];
    runStep((side) => void steps.push(side.revoke?.()));
    await Promise.all(steps);
    handlers.revoke({ pid, generation });
  }

  async function check(): Promise<void> {
    isChecked = true;
    const error = await handlers.check?.();
    if (!isOver) return send({ type: "checked", ...(error !== undefined && { error }) });
    if (error !== undefined) handlers.warn(`this process does not pass its check, and no other can take charge: ${error}`);
  }

  channel.onMessage((raw, handle) => {
    const message = parseFromPredecessor(raw);
    switch (message?.type) {
      case "data":
        return void inboxes.put(message.name, message.data, handle);
      case "ask":
        heardAt = clock.now();
        return send({ type: "alive", answer: message.number });
      case "offered":
        return offered.resolve();
      case "reload":
        return handlers.reload();
      case "shutdown":
        return handlers.shutdown(message.signal);
      case "commit":
        send({ type: "in-charge", ...(handlers.check !== undefined && { check: true }) });
        return takeOver("handed over");
      case "check":
        return void check();
      case "revoke":
        return void revoke(message);
      case "over":
        if (!isInCharge) return; // No predecessor retires before it has handed over.
        if (handlers.check !== undefined && !isChecked) {
          handlers.warn(
            "the check was not made: the version of this library in the predecessor does not know it; the next reload makes it",
          );
        }
        if (message.reload) handlers.reload();
        return finish("handed over");
    }
  });
  channel.onClose(() => {
    takeOver("gone");
    finish("gone");
  });

  return {
    ready: () => send({ type: "ready" }),
    failed: (message) => send({ type: "failed", message }),
    stopping: () => send({ type: "stopping" }),
    checkPredecessor() {
      if (!isInCharge || isOver || heardAt === undefined || clock.now() - heardAt < SILENCE_MS) return;
      handlers.warn(`the predecessor hangs: the reload that process ${pid} came from counts as over`);
      finish("gone");
    },
    allSent: Promise.all([offered.promise, ...sides.map(({ complete }) => complete)]),
  };
}
