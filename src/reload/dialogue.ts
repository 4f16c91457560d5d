import type { Channel, Clock, DescriptorChannel, StartedProcess } from "../core/adapter.ts";
import { ReloadError, type ReloadErrorCode, type ReloadErrorDetails } from "../core/error.ts";
import type { Link } from "./handover.ts";
import { createInboxes } from "./inboxes.ts";
import { createOutbox } from "./outbox.ts";
import { type FromPredecessor, type FromSuccessor, parseFromSuccessor } from "../protocol/reload.ts";

/** What the old process must know of its dialogue with the new one. */
export interface DialogueHandlers {
  /** The new process reports a failure, or sends something that is not understood. */
  fail(code: ReloadErrorCode, what: string, details?: ReloadErrorDetails): void;
  /** The new process is in charge and was asked to shut down. */
  stopping(): void;
  /** Never resolves. Rejects when the reload fails. */
  readonly failure: Promise<never>;
}

/** The dialogue of one reload with the new process, seen from the old one. */
export interface Dialogue {
  /** Resolves with the pid that the new process has reported. */
  readonly hello: Promise<number>;
  /** Resolves when the new process is ready. */
  readonly ready: Promise<void>;
  /** The link of a handover. */
  link(name: string): Link;
  /** Begins the dialogue. */
  open(process: Pick<StartedProcess, "channel" | "descriptors">): void;
  /** Sends a message. Rejects when the new process is gone. */
  send(message: FromPredecessor): Promise<void>;
  /** Tells the new process that all has been offered. */
  offered(): Promise<void>;
  /** Tells the new process to take charge. Resolves when it has. */
  commit(): Promise<void>;
  /** Lets the new process check itself. Resolves when it has passed; one that it fails is a failure. `undefined` where it has no check. */
  check(): Promise<void> | undefined;
  /** Asks the new process for a sign of life. Resolves when it has answered; at once where it is of a version that does not answer. */
  ask(): Promise<void>;
}

/** The next message that is expected of the new process, besides data for the handovers. */
type Expected = "hello" | "ready" | "commit" | "in-charge" | "nothing";

/** Prepares the dialogue of one reload. */
export function createDialogue(
  clock: Clock,
  names: readonly string[],
  { fail, stopping, failure }: DialogueHandlers,
): Dialogue {
  const outbox = createOutbox(clock);
  const inboxes = createInboxes(names, misunderstood);
  const hello = Promise.withResolvers<number>();
  const ready = Promise.withResolvers<void>();
  const tookCharge = Promise.withResolvers<void>();
  const passed = Promise.withResolvers<void>();
  let expected: Expected = "hello";
  let hasCheck = false;
  let channel: Channel | undefined;
  let descriptors: DescriptorChannel | undefined;

  /** A process that was told to take charge may be in charge: it is not killed for a strange message. */
  function misunderstood(): void {
    if (expected !== "in-charge" && expected !== "nothing") fail("protocol", "sent a message that is not understood");
  }

  function receive(message: FromSuccessor | undefined, handle: unknown): void {
    switch (message?.type) {
      case "alive":
        return message.answer === undefined ? undefined : outbox.answer(message.answer);
      case "failed":
        return fail("refused", `cannot become ready: ${message.message}`);
      case "stopping":
        if (expected === "nothing") return stopping();
        break;
      case "hello":
        if (expected !== "hello") break;
        expected = "ready";
        if (message.abilities !== undefined && message.abilities >= 1) outbox.setAnswers();
        return hello.resolve(message.pid);
      case "ready":
        if (expected !== "ready") break;
        expected = "commit";
        return ready.resolve();
      case "in-charge":
        if (expected !== "in-charge") break;
        expected = "nothing";
        hasCheck = message.check === true;
        return tookCharge.resolve();
      case "checked":
        if (!hasCheck) break;
        if (message.error === undefined) return passed.resolve();
        return fail("check", `did not pass its check: ${message.error}`, { cause: new Error(message.error) });
      case "data":
        if (expected === "hello" || !inboxes.put(message.name, message.data, handle)) break;
        return;
    }
    misunderstood();
  }

  /** A closed channel is not the reason of a failure: how the process ended is, and that is about to be known. */
  async function send(message: FromPredecessor, handle?: unknown): Promise<void> {
    try {
      if (channel === undefined) throw new ReloadError("handover", "nothing can be sent before the new process was started");
      await outbox.send(message, handle);
    } catch (error) {
      if (error instanceof ReloadError) throw error;
      await failure;
    }
  }

  return {
    hello: hello.promise,
    ready: ready.promise,
    link: (name) => ({
      get sendsHandles() {
        return channel?.sendsHandles === true;
      },
      get descriptors() {
        return descriptors;
      },
      send: (data, handle) => send({ type: "data", name, data }, handle),
      onData: (receive) => inboxes.open(name, receive),
    }),
    open(process) {
      channel = process.channel;
      descriptors = process.descriptors;
      outbox.open(channel);
      channel.onMessage((raw, handle) => receive(parseFromSuccessor(raw), handle));
    },
    send,
    offered: () => send({ type: "offered" }),
    async commit() {
      expected = "in-charge";
      await send({ type: "commit" });
      await tookCharge.promise;
    },
    check: () => hasCheck ? send({ type: "check" }).then(() => passed.promise) : undefined,
    ask: outbox.ask,
  };
}
