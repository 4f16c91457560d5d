import type { Predecessor } from "./adapter.ts";
import { createMailbox } from "./mailbox.ts";
import { type FromSuccessor, pack, parseFromPredecessor } from "./messages.ts";
import type { Participant } from "./participant.ts";

/** What the new process is told. */
export interface SuccessionHandlers {
  /** This process is in charge from now on. Called once. */
  inCharge(predecessor: "handed over" | "gone"): void;
  /** The reload is over: the predecessor will not take it back. Called once. */
  over(): void;
  /** The predecessor passes a reload on that was asked of it. */
  reload(): void;
  /** The predecessor passes a shutdown on that was asked of it. */
  shutdown(signal: string): void;
}

/** The new process's side of a reload. */
export interface Succession {
  /** Says that this process can take over. */
  ready(): void;
  /** Says that this process will never be ready. The old one ends it. */
  failed(message: string): void;
  /** Says that this process, which is in charge, was asked to shut down: the old one must not take its end for a failure. */
  stopping(): void;
  /** Resolves when every participant can stand in for what the old process has offered. */
  readonly inherited: Promise<unknown>;
}

/** The transaction, seen from the new process: say hello, be ready, wait until the old one lets go or is gone. */
export function beginSuccession(
  { channel }: Predecessor,
  pid: number,
  participants: readonly Participant[],
  handlers: SuccessionHandlers,
): Succession {
  const inboxes = new Map(participants.map(({ name }) => [name, createMailbox<[data: unknown, handle?: unknown]>()]));
  const offered = Promise.withResolvers<void>();
  let inCharge = false;
  let over = false;

  function takeOver(predecessor: "handed over" | "gone"): void {
    if (inCharge) return;
    inCharge = true;
    offered.resolve();
    for (const participant of participants) participant.succeed?.(predecessor);
    handlers.inCharge(predecessor);
  }

  function finish(): void {
    if (over) return;
    over = true;
    for (const participant of participants) participant.over?.();
    handlers.over();
  }

  /** Where the predecessor is gone there is nobody to tell: onClose says what to do about that. */
  function tell(message: FromSuccessor): void {
    channel.send(pack(message)).catch(() => {});
  }

  tell({ type: "hello", pid });
  const inherited = participants.map((participant) =>
    participant.inherit?.({
      send: (data, handle) => channel.send(pack({ type: "data", name: participant.name, data }), handle),
      onData: (receive) => inboxes.get(participant.name)?.open(receive),
    }, offered.promise)
  );
  channel.onMessage((raw, handle) => {
    const message = parseFromPredecessor(raw);
    if (message?.type === "data") inboxes.get(message.name)?.put(message.data, handle);
    if (message?.type === "offered") offered.resolve();
    if (message?.type === "reload") handlers.reload();
    if (message?.type === "shutdown") handlers.shutdown(message.signal);
    if (message?.type === "commit") {
      tell({ type: "in-charge" });
      takeOver("handed over");
    }
    if (message?.type === "over") {
      if (message.reload) handlers.reload();
      finish();
    }
  });
  channel.onClose(() => {
    takeOver("gone");
    finish();
  });

  return {
    ready: () => tell({ type: "ready" }),
    failed: (message) => tell({ type: "failed", message }),
    stopping: () => tell({ type: "stopping" }),
    inherited: Promise.all([offered.promise, ...inherited]),
  };
}
