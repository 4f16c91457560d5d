/** Sends connections to the new process, each of them once. */
import type { Clock } from "../core/adapter.ts";
import type { LiveSocket } from "../core/live.ts";
import { atMost, pause } from "../core/pause.ts";
import type { SharedSocket } from "../core/shared_socket.ts";
import type { ConnectionAdapter } from "../core/socket_adapter.ts";
import type { Link, OutgoingReload } from "../reload/handover.ts";
import type { HandoverData } from "../protocol/reload.ts";
import { packSession, toBase64 } from "../protocol/connections.ts";

/**
 * How long the new process may take for one connection. It is sent again then: Deno 2.9 may lose
 * one on its way.
 */
const TAKE_TIMEOUT_MS = 1_000;
const MOST_ATTEMPTS = 5;
/**
 * How many descriptors may be on their way at once: a process that takes many in one turn has less
 * work with each. The kernel takes about twice as many before it reports that there is no room
 * (SO_SNDBUF).
 */
const DESCRIPTOR_WINDOW = 128;
/** Milliseconds until a descriptor is sent again for which there was no room. */
const FULL_MS = 5;

/** A connection that nobody in this process uses any more. */
export interface Departing {
  /** The name of the group that it belongs to, in both processes. */
  readonly group: string;
  /**
   * What the new process gets of it. Descriptors can be sent where `takesDescriptors` of the sender
   * says so.
   */
  readonly shared: SharedSocket;
  /** What the new process needs to go on. */
  readonly session?: unknown;
  /** The bytes that were read and not consumed, if there are any. */
  readonly unread?: Uint8Array;
  /** Whether there is nothing to move any more. Asked before it is sent. */
  isGone?(): boolean;
  /**
   * Closes it in this process. The connection itself lives on where the new process has it as well.
   */
  close(): void;
  /** Goes on with it in this process: the new one did not take it. */
  giveBack(): void;
}

/**
 * The connections of one reload. This process keeps each one until the new process has taken it.
 */
export interface ConnectionSender {
  /** How many the new process has taken. */
  readonly moved: number;
  /** Milliseconds from the first attempt until the last one was taken. */
  readonly milliseconds: number;
  /**
   * Whether the new process takes descriptors. Known when it has answered `tell`: versions up to
   * 0.6 do not.
   */
  readonly takesDescriptors: boolean;
  /** Listens for the answers of the new process. */
  open(): void;
  /** Takes in a connection, to be sent later. */
  add(connection: Departing): void;
  /**
   * Tells the new process how far the move is, and waits until it has read that, and all that was
   * sent before. Deno 2.9 loses a socket that arrives in one piece with another message. Rejects
   * when the new process is gone, or does not answer: an earlier version takes no connections.
   *
   * @param isPatient Whether a process that was stopped may go on before. Not while clients wait.
   */
  tell(what: "announced" | "begin" | "complete", isPatient?: boolean): Promise<void>;
  /** Sends those that were added. Rejects when the new process is gone, or takes none. */
  sendAll(): Promise<void>;
  /** Goes on here with all that the new process has not taken: it is dead. */
  giveBack(): void;
  /**
   * Goes on here with those that were not sent. What was sent and not answered is closed here,
   * because the new process may still come to take it: a connection is never served by two
   * processes.
   */
  finish(): void;
}

/** Whether there is nothing to move any more. */
export function isGone({ destroyed, readableEnded, writableEnded }: LiveSocket): boolean {
  return destroyed || readableEnded || writableEnded;
}

/** What the sender has to know of a socket of node:net. */
export function departing(
  adapter: ConnectionAdapter,
  socket: LiveSocket,
): Required<Pick<Departing, "shared" | "isGone" | "close">> {
  return {
    shared: { handle: adapter.handle(socket) },
    isGone: () => isGone(socket),
    close: () => void socket.destroy(),
  };
}

/** What the sender of one reload knows. */
interface Sending {
  readonly clock: Clock;
  readonly link: Link;
  /** Fires when the reload has failed. */
  readonly signal: AbortSignal;
  /** Those that the new process has not taken yet, by the numbers they are sent under. */
  readonly waiting: Map<number, Departing>;
  /** What an answer ends, by the same numbers. Those of connections that were sent. */
  readonly answered: Map<number, () => void>;
  ack(): void;
  takesDescriptors: boolean;
  moved: number;
  count: number;
  begun: number | undefined;
  ended: number;
}

/**
 * Makes the sender of one reload.
 *
 * @param window How many handles may be on their way at once.
 */
export function createConnectionSender(
  window: number,
  clock: Clock,
  { link, signal }: OutgoingReload,
): ConnectionSender {
  const sending: Sending = {
    ...{ clock, link, signal, waiting: new Map(), answered: new Map(), ack() {} },
    ...{ takesDescriptors: false, moved: 0, count: 0, begun: undefined, ended: 0 },
  };
  const { waiting, answered } = sending;
  return {
    get moved() {
      return sending.moved;
    },
    get milliseconds() {
      return sending.moved === 0 ? 0 : sending.ended - (sending.begun ?? 0);
    },
    get takesDescriptors() {
      return sending.takesDescriptors && link.descriptors !== undefined;
    },
    open: () => link.onData((data) => receive(sending, data)),
    add: (connection) => void waiting.set(++sending.count, connection),
    tell: (what, isPatient = false) => sync(sending, what, isPatient ? MOST_ATTEMPTS : 1),
    async sendAll() {
      sending.begun ??= clock.now();
      await sendSome(sending, window, false);
      // Not at the same time: Deno 2.9 loses a handle that arrives with another message.
      await sendSome(sending, DESCRIPTOR_WINDOW, true);
    },
    giveBack() {
      for (const connection of waiting.values()) connection.giveBack();
      waiting.clear();
    },
    finish() {
      for (const [id, connection] of waiting) {
        if (answered.has(id)) connection.close();
        else connection.giveBack();
      }
      waiting.clear();
    },
  };
}

/** An answer of the new process. */
function receive(sending: Sending, { pong, takes, taken, refused }: HandoverData): void {
  const { waiting, answered, clock } = sending;
  if (takes === true) sending.takesDescriptors = true;
  if (pong === true) sending.ack();
  const id = Number(taken ?? refused);
  const connection = waiting.get(id);
  if (connection === undefined) return;
  waiting.delete(id);
  if (taken !== undefined) {
    sending.moved++;
    sending.ended = clock.now();
    connection.close();
  } else connection.giveBack();
  answered.get(id)?.();
  answered.delete(id);
}

/** Sends a message, and waits until it is read. */
async function sync(sending: Sending, what: string, attempts: number): Promise<void> {
  const answer = new Promise<void>((resolve) => sending.ack = resolve);
  let isAnswered = false;
  await sending.link.send({ ping: what });
  const answered = answer.then(() => isAnswered = true);
  for (let attempt = 0; !isAnswered && attempt < attempts && !sending.signal.aborted; attempt++) {
    await atMost(sending.clock, TAKE_TIMEOUT_MS, answered);
  }
  if (!isAnswered) throw new Error("the new process does not answer");
}

/** Sends those of one kind, so many at a time. */
async function sendSome(sending: Sending, atOnce: number, isDescriptor: boolean): Promise<void> {
  const all = sending.waiting.entries();
  await Promise.all(Array.from({ length: atOnce }, async () => {
    for (const [id, connection] of all) {
      if (sending.signal.aborted) return;
      if ("fd" in connection.shared === isDescriptor) await send(sending, id, connection);
    }
  }));
}

async function send(sending: Sending, id: number, connection: Departing): Promise<void> {
  const { clock, link, signal, waiting, answered } = sending;
  const { group, shared, session, unread, isGone, close } = connection;
  const answer = Promise.withResolvers<void>();
  for (let attempt = 1; waiting.has(id) && !signal.aborted; attempt++) {
    if (isGone?.()) {
      waiting.delete(id);
      return close();
    }
    if (attempt > MOST_ATTEMPTS) throw new Error("the new process takes no connections");
    const number = "fd" in shared ? await sendDescriptor(sending, id, shared.fd) : undefined;
    if ("fd" in shared && number === undefined) continue;
    const message = {
      id,
      group,
      ...packSession(session),
      unread: toBase64(unread ?? new Uint8Array()),
      number,
    };
    answered.set(id, answer.resolve);
    const sent = link.send({ connection: message }, "fd" in shared ? undefined : shared.handle);
    await atMost(clock, TAKE_TIMEOUT_MS, Promise.all([sent, answer.promise]));
  }
}

/** Sends a descriptor. Returns its number; `undefined` where there is no room for a long time. */
async function sendDescriptor(
  sending: Sending,
  id: number,
  fd: number,
): Promise<number | undefined> {
  const { clock, link, signal, waiting } = sending;
  for (const begun = clock.now(); waiting.has(id) && !signal.aborted; await pause(clock, FULL_MS)) {
    const number = link.descriptors?.send([fd]);
    if (number !== undefined || clock.now() - begun > TAKE_TIMEOUT_MS) return number;
  }
  return undefined;
}
