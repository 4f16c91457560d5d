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
 * How many descriptors travel in one message: a message costs more than a descriptor, above all on
 * Deno 2.9.
 */
const BATCH = 64;
/** How long such a message may become, in characters of JSON, before it is left to another one. */
const BATCH_LENGTH = 2 ** 18;
/** How many of these messages may be on their way at once. */
const BATCHES = 4;
/** How many descriptors may be on their way at once. */
export const DESCRIPTOR_WINDOW: number = BATCH * BATCHES;
/** Milliseconds until descriptors are sent again for which there was no room, here or there. */
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
  /** What a message without its descriptors ends, by their number. */
  readonly lost: Map<number, () => void>;
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
    ...{ clock, link, signal, waiting: new Map(), answered: new Map(), lost: new Map() },
    ...{ ack() {}, takesDescriptors: false, moved: 0, count: 0, begun: undefined, ended: 0 },
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
      await inParallel(window, [...waiting].values(), signal, (one) => sendHandle(sending, ...one));
      // Not at the same time: Deno 2.9 loses a handle that arrives with another message.
      const batches = inBatches(waiting).values();
      await inParallel(BATCHES, batches, signal, (batch) => sendBatch(sending, batch));
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
function receive(sending: Sending, { pong, takes, taken, refused, lost }: HandoverData): void {
  if (takes === true) sending.takesDescriptors = true;
  if (pong === true) sending.ack();
  for (const id of toList(taken)) answer(sending, Number(id), true);
  for (const id of toList(refused)) answer(sending, Number(id), false);
  sending.lost.get(Number(lost))?.();
}

function toList(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : value === undefined ? [] : [value];
}

function answer(sending: Sending, id: number, isTaken: boolean): void {
  const { waiting, answered, clock } = sending;
  const connection = waiting.get(id);
  if (connection === undefined) return;
  waiting.delete(id);
  if (isTaken) {
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

/** Does so many at a time. */
async function inParallel<T>(
  count: number,
  all: Iterable<T>,
  signal: AbortSignal,
  send: (one: T) => Promise<void>,
): Promise<void> {
  await Promise.all(Array.from({ length: count }, async () => {
    for (const one of all) {
      if (signal.aborted) return;
      await send(one);
    }
  }));
}

/** What the new process is told of a connection. */
function describe(id: number, { group, session, unread }: Departing): object {
  return {
    id,
    group,
    ...packSession(session),
    unread: toBase64(unread ?? new Uint8Array()),
  };
}

/** Sends a connection by the channel of the runtime, unless it has a descriptor. */
async function sendHandle(sending: Sending, id: number, connection: Departing): Promise<void> {
  const { clock, link, signal, waiting, answered } = sending;
  const { shared, isGone, close } = connection;
  if ("fd" in shared) return;
  const answer = Promise.withResolvers<void>();
  for (let attempt = 1; waiting.has(id) && !signal.aborted; attempt++) {
    if (isGone?.()) {
      waiting.delete(id);
      return close();
    }
    if (attempt > MOST_ATTEMPTS) throw refuses();
    answered.set(id, answer.resolve);
    const sent = link.send({ connection: describe(id, connection) }, shared.handle);
    await atMost(clock, TAKE_TIMEOUT_MS, Promise.all([sent, answer.promise]));
  }
}

const refuses = () => new Error("the new process takes no connections");

/** A connection that travels with others, and what is said of it. */
interface Described {
  readonly id: number;
  readonly fd: number;
  readonly description: object;
}

/** Those that have a descriptor, as they travel together. */
function inBatches(connections: Iterable<[number, Departing]>): Described[][] {
  const batches: Described[][] = [];
  let last: Described[] = [];
  let length = BATCH_LENGTH;
  for (const [id, connection] of connections) {
    if (!("fd" in connection.shared)) continue;
    const description = describe(id, connection);
    const more = JSON.stringify(description).length;
    if (length + more > BATCH_LENGTH || last.length === BATCH) {
      batches.push(last = []);
      length = 0;
    }
    length += more;
    last.push({ id, fd: connection.shared.fd, description });
  }
  return batches;
}

/**
 * Sends connections by their descriptors: together, then one by one those that the new process did
 * not take. It may have few descriptors left.
 */
async function sendBatch(sending: Sending, batch: readonly Described[]): Promise<void> {
  const { signal, waiting } = sending;
  await sendTogether(sending, batch);
  for (const one of batch) {
    for (let attempt = 2; waiting.has(one.id) && !signal.aborted; attempt++) {
      if (attempt > MOST_ATTEMPTS) throw refuses();
      await sendTogether(sending, [one]);
    }
  }
}

async function sendTogether(sending: Sending, batch: readonly Described[]): Promise<void> {
  const { clock, link, signal, waiting } = sending;
  for (const begun = clock.now(); !signal.aborted; await pause(clock, FULL_MS)) {
    const left = batch.filter(({ id }) => waiting.has(id));
    if (left.length === 0) return;
    const number = link.descriptors?.send(left.map(({ fd }) => fd));
    // In the same turn: what is given back meanwhile must not be sent.
    if (number !== undefined) return await announce(sending, number, left);
    if (clock.now() - begun > TAKE_TIMEOUT_MS) return;
  }
}

/** Tells the new process whose descriptors came under a number, and waits for the answer. */
async function announce(
  { clock, link, answered, lost }: Sending,
  number: number,
  batch: readonly Described[],
): Promise<void> {
  const answers = batch.map(({ id }) => {
    const { promise, resolve } = Promise.withResolvers<void>();
    answered.set(id, resolve);
    return promise;
  });
  let isLost = false;
  const loss = new Promise<void>((resolve) => lost.set(number, resolve)).then(() => isLost = true);
  const sent = link.send({ number, connections: batch.map(({ description }) => description) });
  await atMost(clock, TAKE_TIMEOUT_MS, Promise.race([loss, Promise.all([sent, ...answers])]));
  lost.delete(number);
  if (!isLost) return;
  // All messages before this one were read as well: the new process has none of these.
  for (const { id } of batch) answered.delete(id);
  await pause(clock, FULL_MS);
}
