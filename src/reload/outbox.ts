import type { Channel, Clock } from "../core/adapter.ts";
import { ReloadError } from "../core/error.ts";
import { atMost } from "../core/pause.ts";
import { type FromPredecessor, pack } from "../protocol/reload.ts";

/** How long the new process may take to read what was sent before a socket. */
const READ_TIMEOUT_MS = 5_000;

/** Sends the messages of one reload to the new process, in their order. */
export interface Outbox {
  /** Sets the channel, once the new process was started. */
  open(channel: Channel): void;
  /** Must be called when the new process answers questions. */
  setAnswers(): void;
  /** Sends a message, and a socket with it. Rejects when the channel is closed. */
  send(message: FromPredecessor, handle?: unknown): Promise<void>;
  /**
   * Asks the new process for a sign of life. Resolves when it has answered; at once where it is of
   * a version that does not answer.
   */
  ask(): Promise<void>;
  /** Must be called with the number of each question that was answered. */
  answer(question: number): void;
}

/**
 * Makes the outbox of one reload. Where a channel carries a socket only alone, nothing else is sent
 * before the new process has read all that was sent before the socket. Two messages after each
 * other would be in one piece: the runtime keeps what follows a socket until that is read.
 */
export function createOutbox(clock: Clock): Outbox {
  let channel: Channel | undefined;
  let answers = false;
  let questions = 0;
  const answered = new Map<number, () => void>();
  /** Whether something was sent that the new process has not read yet, as far as is known. */
  let hasUnread = true;
  /** Settles when all that waits was sent; `undefined` where nothing waits. */
  let waiting: Promise<void> | undefined;

  async function write(message: FromPredecessor, handle?: unknown): Promise<void> {
    if (channel === undefined) throw new Error("the new process was not started yet");
    hasUnread = handle === undefined;
    await channel.send(pack(message), handle);
  }

  async function question(write: Outbox["send"]): Promise<void> {
    const number = ++questions;
    const { promise, resolve } = Promise.withResolvers<void>();
    answered.set(number, resolve);
    await write({ type: "ask", number });
    await promise;
    answered.delete(number);
  }

  async function untilRead(): Promise<void> {
    let isRead = false;
    await atMost(clock, READ_TIMEOUT_MS, question(write).then(() => isRead = true));
    if (!isRead) {
      throw new ReloadError("silent", "the new process does not read what is sent to it");
    }
  }

  async function send(message: FromPredecessor, handle?: unknown): Promise<void> {
    const isAlone = handle !== undefined && answers && channel?.handlesTravelAlone === true;
    if (waiting === undefined && !isAlone) return await write(message, handle);
    const sent = (waiting ?? Promise.resolve()).then(async () => {
      if (isAlone && hasUnread) await untilRead();
      await write(message, handle);
    });
    const settled: Promise<void> = sent.catch(() => {}).then(() => {
      if (waiting === settled) waiting = undefined;
    });
    waiting = settled;
    await sent;
  }

  return {
    open: (to) => void (channel = to),
    setAnswers: () => void (answers = true),
    send,
    async ask() {
      if (answers) await question(send);
    },
    answer: (question) => answered.get(question)?.(),
  };
}
