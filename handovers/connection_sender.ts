/** Sends connections to the new process, each of them once. */
import type { Clock } from "../core/adapter.ts";
import type { LiveSocket } from "../core/live.ts";
import { atMost } from "../core/pause.ts";
import type { ConnectionAdapter } from "../core/socket_adapter.ts";
import type { Reload } from "../reload/handover.ts";
import type { HandoverData } from "../reload/messages.ts";
import { packSession, toBase64 } from "./connection_message.ts";

/** How long the new process may take for one connection. It is sent again then: Deno 2.9 may lose one on its way. */
const TAKE_TIMEOUT_MS = 1_000;
const MOST_ATTEMPTS = 5;

/** A connection that nobody in this process uses any more. */
export interface Departing {
  /** The name of the group that it belongs to, in both processes. */
  readonly group: string;
  readonly socket: LiveSocket;
  /** What the new process needs to go on. */
  readonly session?: unknown;
  /** The bytes that were read and not consumed. */
  readonly unread: Uint8Array;
  /** Goes on with it in this process: the new one did not take it. */
  giveBack(): void;
}

/** The connections of one reload. This process keeps each one until the new process has taken it. */
export interface ConnectionSender {
  /** How many the new process has taken. */
  readonly moved: number;
  /** Milliseconds from the first attempt until the last one was taken. */
  readonly milliseconds: number;
  /** Listens for the answers of the new process. */
  open(): void;
  /** Takes in a connection, to be sent later. */
  add(connection: Departing): void;
  /**
   * Tells the new process how far the move is, and waits until it has read that, and all that was sent before. Deno 2.9 loses a socket that
   * arrives in one piece with another message. Rejects when the new process is gone, or does not answer: an earlier version takes no
   * connections.
   */
  tell(what: "announced" | "begin" | "complete"): Promise<void>;
  /** Sends those that were added. Rejects when the new process is gone, or takes none. */
  sendAll(): Promise<void>;
  /** Goes on here with all that the new process has not taken: it is dead. */
  giveBack(): void;
  /**
   * Goes on here with those that were not sent. What was sent and not answered is closed here, because the new process may still come to take
   * it: a connection is never served by two processes.
   */
  finish(): void;
}

/** Is there nothing to move any more? */
export function isGone({ destroyed, readableEnded, writableEnded }: LiveSocket): boolean {
  return destroyed || readableEnded || writableEnded;
}

/** Makes the sender of one reload. */
export function createConnectionSender(adapter: ConnectionAdapter, clock: Clock, { link, signal }: Reload): ConnectionSender {
  /** Those that the new process has not taken yet, by the numbers they are sent under. */
  const waiting = new Map<number, Departing>();
  /** What an answer ends, by the same numbers. Those of connections that were sent. */
  const answered = new Map<number, () => void>();
  let pong = () => {};
  let moved = 0;
  let count = 0;
  let begun: number | undefined;
  let ended = 0;

  function receive({ pong: isPong, taken, refused }: HandoverData): void {
    if (isPong === true) pong();
    const id = Number(taken ?? refused);
    const connection = waiting.get(id);
    if (connection === undefined) return;
    waiting.delete(id);
    if (taken !== undefined) {
      moved++;
      ended = clock.now();
      connection.socket.destroy(); // The connection itself lives on: the new process has it as well.
    } else connection.giveBack();
    answered.get(id)?.();
    answered.delete(id);
  }

  async function send(id: number, { group, socket, session, unread }: Departing): Promise<void> {
    const answer = new Promise<void>((resolve) => answered.set(id, resolve));
    for (let attempt = 1; waiting.has(id); attempt++) {
      if (isGone(socket)) return void waiting.delete(id);
      if (attempt > MOST_ATTEMPTS) throw new Error("the new process takes no connections");
      const data = { id, group, ...packSession(session), unread: toBase64(unread) };
      const sent = link.send({ connection: data }, adapter.handle(socket));
      await atMost(clock, TAKE_TIMEOUT_MS, Promise.all([sent, answer]));
    }
  }

  return {
    get moved() {
      return moved;
    },
    get milliseconds() {
      return moved === 0 ? 0 : ended - (begun ?? 0);
    },
    open: () => link.onData(receive),
    add: (connection) => void waiting.set(++count, connection),
    async tell(what) {
      const answer = new Promise<void>((resolve) => pong = resolve);
      let isAnswered = false;
      await link.send({ ping: what });
      await atMost(clock, TAKE_TIMEOUT_MS, answer.then(() => isAnswered = true));
      if (!isAnswered) throw new Error("the new process does not answer");
    },
    async sendAll() {
      begun ??= clock.now();
      const all = waiting.entries();
      await Promise.all(Array.from({ length: adapter.window }, async () => {
        for (const [id, connection] of all) {
          if (signal.aborted) return;
          await send(id, connection);
        }
      }));
    },
    giveBack() {
      for (const connection of waiting.values()) connection.giveBack();
      waiting.clear();
    },
    finish() {
      for (const [id, connection] of waiting) {
        if (answered.has(id)) connection.socket.destroy();
        else connection.giveBack();
      }
      waiting.clear();
    },
  };
}
