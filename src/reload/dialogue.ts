import type { Channel, Clock, DescriptorChannel, StartedProcess } from "../core/adapter.ts";
import { ReloadError, type ReloadErrorCode, type ReloadErrorDetails } from "../core/error.ts";
import type { Link } from "./handover.ts";
import { createInboxes, type Inboxes } from "./inboxes.ts";
import { createOutbox, type Outbox } from "./outbox.ts";
import {
  type FromPredecessor,
  type FromSuccessor,
  parseFromSuccessor,
} from "../protocol/reload.ts";

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
  /**
   * Lets the new process check itself. Resolves when it has passed; one that it fails is a failure.
   * `undefined` where it has no check.
   */
  check(): Promise<void> | undefined;
  /**
   * Asks the new process for a sign of life. Resolves when it has answered; at once where it is of
   * a version that does not answer.
   */
  ask(): Promise<void>;
}

/** The next message that is expected of the new process, besides data for the handovers. */
type Expected = "hello" | "ready" | "commit" | "in-charge" | "nothing";

/** The state of a dialogue. */
interface Conversation {
  readonly handlers: DialogueHandlers;
  readonly outbox: Outbox;
  readonly inboxes: Inboxes;
  readonly hello: PromiseWithResolvers<number>;
  readonly ready: PromiseWithResolvers<void>;
  readonly tookCharge: PromiseWithResolvers<void>;
  readonly passed: PromiseWithResolvers<void>;
  expected: Expected;
  /** Whether the new process has a check to be asked for. */
  hasCheck: boolean;
  channel: Channel | undefined;
  descriptors: DescriptorChannel | undefined;
}

/** Prepares the dialogue of one reload. */
export function createDialogue(
  clock: Clock,
  names: readonly string[],
  handlers: DialogueHandlers,
): Dialogue {
  const conversation: Conversation = {
    handlers,
    outbox: createOutbox(clock),
    inboxes: createInboxes(names, () => misunderstood(conversation)),
    hello: Promise.withResolvers(),
    ready: Promise.withResolvers(),
    tookCharge: Promise.withResolvers(),
    passed: Promise.withResolvers(),
    expected: "hello",
    hasCheck: false,
    channel: undefined,
    descriptors: undefined,
  };
  const { outbox, hello, ready, tookCharge, passed } = conversation;
  const tell = (message: FromPredecessor, handle?: unknown) => send(conversation, message, handle);
  return {
    hello: hello.promise,
    ready: ready.promise,
    link: (name) => createLink(conversation, name),
    open({ channel, descriptors }) {
      Object.assign(conversation, { channel, descriptors });
      outbox.open(channel);
      channel.onMessage((raw, handle) => {
        if (!receive(conversation, parseFromSuccessor(raw), handle)) misunderstood(conversation);
      });
    },
    send: tell,
    offered: () => tell({ type: "offered" }),
    async commit() {
      conversation.expected = "in-charge";
      await tell({ type: "commit" });
      await tookCharge.promise;
    },
    check: () =>
      conversation.hasCheck ? tell({ type: "check" }).then(() => passed.promise) : undefined,
    ask: outbox.ask,
  };
}

function createLink(conversation: Conversation, name: string): Link {
  return {
    get sendsHandles() {
      return conversation.channel?.sendsHandles === true;
    },
    get descriptors() {
      return conversation.descriptors;
    },
    send: (data, handle) => send(conversation, { type: "data", name, data }, handle),
    onData: (receive) => conversation.inboxes.open(name, receive),
  };
}

/**
 * A process that was told to take charge may be in charge: it is not killed for a strange message.
 */
function misunderstood({ expected, handlers: { fail } }: Conversation): void {
  if (expected !== "in-charge" && expected !== "nothing") {
    fail("protocol", "sent a message that is not understood");
  }
}

/** Returns whether the message was expected. */
function receive(
  conversation: Conversation,
  message: FromSuccessor | undefined,
  handle: unknown,
): boolean {
  const { handlers: { fail, stopping }, outbox, inboxes, expected } = conversation;
  switch (message?.type) {
    case "alive":
      if (message.answer !== undefined) outbox.answer(message.answer);
      return true;
    case "failed":
      fail("refused", `cannot become ready: ${message.message}`);
      return true;
    case "stopping":
      if (expected !== "nothing") return false;
      stopping();
      return true;
    case "hello":
      if (expected !== "hello") return false;
      conversation.expected = "ready";
      if (message.abilities !== undefined && message.abilities >= 1) outbox.setAnswers();
      conversation.hello.resolve(message.pid);
      return true;
    case "ready":
      if (expected !== "ready") return false;
      conversation.expected = "commit";
      conversation.ready.resolve();
      return true;
    case "in-charge":
      if (expected !== "in-charge") return false;
      conversation.expected = "nothing";
      conversation.hasCheck = message.check === true;
      conversation.tookCharge.resolve();
      return true;
    case "checked":
      return judge(conversation, message.error);
    case "data":
      return expected !== "hello" && inboxes.put(message.name, message.data, handle);
    default:
      return false;
  }
}

function judge(
  { hasCheck, passed, handlers: { fail } }: Conversation,
  error: string | undefined,
): boolean {
  if (!hasCheck) return false;
  if (error === undefined) passed.resolve();
  else fail("check", `did not pass its check: ${error}`, { cause: new Error(error) });
  return true;
}

/**
 * A closed channel is not the reason of a failure: how the process ended is, and that is about to
 * be known.
 */
async function send(
  { channel, outbox, handlers: { failure } }: Conversation,
  message: FromPredecessor,
  handle?: unknown,
): Promise<void> {
  try {
    if (channel === undefined) {
      throw new ReloadError("handover", "nothing can be sent before the new process was started");
    }
    await outbox.send(message, handle);
  } catch (error) {
    if (error instanceof ReloadError) throw error;
    await failure;
  }
}
