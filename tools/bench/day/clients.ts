/**
 * Clients of all kinds that never send anything twice. Each message has an id of its own, and is
 * told from its answer.
 */
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { type Connection, openConnection } from "../../../tests/load/http1.ts";
import { pattern } from "../../../tests/load/pattern.ts";
import { createRandom, type Random } from "./random.ts";
import type { Failure } from "./verdict.ts";

/** Where the program listens. */
export interface Ports {
  readonly http: number;
  readonly tcp: number;
  readonly udp: number;
}

/** What the clients have seen. */
export interface Tally {
  /** What was sent, by kind of client. */
  readonly sent: Map<string, number>;
  readonly failures: Failure[];
  /** What was answered twice, or counted twice by the server: a line for each. */
  readonly doubled: string[];
  /** How many connections were made by those clients that keep theirs. */
  connections: number;
}

/** Clients at work. */
export interface Clients {
  readonly tally: Tally;
  /** Waits for what is under way, and ends. */
  stop(): Promise<void>;
}

/** How many there are of each kind. */
const COUNTS = {
  "kept HTTP": 20,
  "new HTTP": 3,
  uploads: 3,
  WebSockets: 20,
  "raw TCP": 20,
  UDP: 1,
} as const;
type Kind = keyof typeof COUNTS;
/**
 * A connection that is not answered for so long is given up: longer than any process is stopped.
 */
const PATIENCE_MS = 20_000;
/**
 * Milliseconds until a datagram counts as not answered. What becomes of it is decided in the first
 * second, unless its process is stopped.
 */
const DATAGRAM_MS = 12_000;
const DECIDED_MS = 1_000;

/** What one client is given. */
interface Context {
  readonly kind: Kind;
  readonly random: Random;
  readonly ports: Ports;
  readonly signal: AbortSignal;
  readonly tally: Tally;
  /** An id that nothing else has. */
  id(): string;
  /** Waits, or not any more when the clients are to end. */
  pause(least: number, most: number): Promise<void>;
  fail(error: unknown, begun: number, last?: Failure["last"], noticed?: number): void;
}

/** Starts all of them. */
export function startClients(ports: Ports, seed: number): Clients {
  const stopping = new AbortController();
  const { signal } = stopping;
  const tally: Tally = { sent: new Map(), failures: [], doubled: [], connections: 0 };
  let ids = 0;
  function context(kind: Kind, index: number): Context {
    const random = createRandom(seed + 7919 * ++ids);
    return {
      kind,
      random,
      ports,
      signal,
      tally,
      id() {
        const count = (tally.sent.get(kind) ?? 0) + 1;
        tally.sent.set(kind, count);
        return `${kind.replace(" ", "-")}-${index}-${count}`;
      },
      pause: (least, most) =>
        delay(random.between(least, most), undefined, { signal }).catch(() => {}),
      fail(error, begun, last, noticed = performance.now()) {
        const { code, message } = error as NodeJS.ErrnoException;
        tally.failures.push({ client: kind, error: code ?? message, begun, last, noticed });
      },
    };
  }
  const run: Record<Kind, (context: Context) => Promise<void>> = {
    "kept HTTP": keptHttp,
    "new HTTP": newHttp,
    uploads: upload,
    WebSockets: (context) => messages(context, openWebSocket),
    "raw TCP": (context) => messages(context, openTcp),
    UDP: datagrams,
  };
  const running = (Object.keys(COUNTS) as Kind[]).flatMap((kind) =>
    Array.from({ length: COUNTS[kind] }, (_, index) => run[kind](context(kind, index)))
  );
  return {
    tally,
    async stop() {
      stopping.abort();
      await Promise.all(running);
    },
  };
}

/** The whole of a request, and the body that it is answered with. */
function request(
  { id, random }: Context,
  isPost: boolean,
): { head: string; body: string; expected: string } {
  const path = `/${id()}`;
  const body = isPost ? pattern(random.between(0, 99), random.between(0, 3_000)) : "";
  const length = isPost ? `Content-Length: ${body.length}\r\n` : "";
  return {
    head: `${isPost ? "POST" : "GET"} ${path} HTTP/1.1\r\nHost: day\r\n${length}\r\n`,
    body,
    expected: isPost ? body : path,
  };
}

/** Waits for an answer, and returns the process that sent it, and whether the connection stays. */
async function answered(
  connection: Connection,
  expected: string,
): Promise<{ pid: number; stays: boolean }> {
  const { status, body, headers } = await connection.answer();
  if (status !== 200) throw new Error(`status ${status}`);
  if (body !== expected) throw new Error("wrong bytes");
  return {
    pid: Number(headers.get("x-pid")),
    stays: headers.get("connection")?.toLowerCase() !== "close",
  };
}

/** One connection for as long as the server keeps it. */
async function keptHttp(context: Context): Promise<void> {
  const { ports, signal, tally, pause, fail, random } = context;
  let connection: Connection | undefined;
  let last: Failure["last"];
  for (;;) {
    await pause(20, 2_000);
    if (signal.aborted) break;
    const begun = performance.now();
    try {
      if (connection === undefined || connection.isClosed) {
        last = undefined;
        connection = await openConnection({ port: ports.http });
        tally.connections++;
      }
      const { head, body, expected } = request(context, random.next() < 0.5);
      connection.write(head + body);
      const { pid, stays } = await answered(connection, expected);
      last = { pid, at: performance.now() };
      if (!stays) throw undefined;
    } catch (error) {
      if (error !== undefined) fail(error, begun, last);
      connection?.close();
      connection = undefined;
    }
  }
  connection?.close();
}

/** A connection for each request. */
async function newHttp(context: Context): Promise<void> {
  const { ports, signal, pause, fail, random } = context;
  for (; !signal.aborted; await pause(5, 50)) {
    const begun = performance.now();
    let connection: Connection | undefined;
    try {
      connection = await openConnection({ port: ports.http });
      const { head, body, expected } = request(context, random.next() < 0.3);
      connection.write(head + body);
      await answered(connection, expected);
    } catch (error) {
      fail(error, begun);
    }
    connection?.close();
  }
}

/** A body that is sent in pieces, for as long as several seconds, on a connection of its own. */
async function upload(context: Context): Promise<void> {
  const { ports, signal, id, pause, fail, random } = context;
  for (; !signal.aborted; await pause(50, 500)) {
    const begun = performance.now();
    const pieces = Array.from(
      { length: random.between(2, 20) },
      () => pattern(random.between(0, 99), random.between(1, 20_000)),
    );
    const body = pieces.join("");
    let connection: Connection | undefined;
    try {
      connection = await openConnection({ port: ports.http });
      connection.write(
        `POST /${id()} HTTP/1.1\r\nHost: day\r\nContent-Length: ${body.length}\r\n\r\n`,
      );
      for (const piece of pieces) {
        connection.write(piece);
        await delay(random.between(1, 150));
      }
      await answered(connection, body);
    } catch (error) {
      fail(error, begun);
    }
    connection?.close();
  }
}

/** A connection on which messages are answered with their numbers. */
interface MessageConnection {
  send(text: string, random: Random): void;
  /** Resolves with the next message, rejects when the connection is closed. */
  next(): Promise<string>;
  close(): void;
}

/**
 * Sends messages on one connection, one after the other: each is to be answered once, and counted
 * once.
 */
async function messages(
  { ports, signal, tally, id, pause, fail, random }: Context,
  open: (ports: Ports) => Promise<MessageConnection>,
): Promise<void> {
  let connection: MessageConnection | undefined;
  let last: Failure["last"];
  let count = 0;
  for (; !signal.aborted; await pause(20, 1_000)) {
    const begun = performance.now();
    try {
      if (connection === undefined) {
        [last, count] = [undefined, 0];
        connection = await open(ports);
        tally.connections++;
      }
      const sent = id();
      connection.send(sent, random);
      const answer = await connection.next();
      const [echo, number, pid] = answer.split(" ");
      last = { pid: Number(pid), at: performance.now() };
      if (echo !== sent) throw new Error(`the answer to another message: ${answer} for ${sent}`);
      if (Number(number) > ++count) {
        tally.doubled.push(`${sent} is number ${number} on its connection, not ${count}`);
      } else if (Number(number) < count) {
        throw new Error(`the server has forgotten ${count - Number(number)} messages`);
      }
    } catch (error) {
      fail(error, begun, last);
      connection?.close();
      connection = undefined;
      await pause(20, 200);
    }
  }
  connection?.close();
}

/** Collects messages until somebody asks for them, and the end. */
function createInbox() {
  const texts: string[] = [];
  let ended: Error | undefined;
  let wake = () => {};
  return {
    put(text: string) {
      texts.push(text);
      wake();
    },
    end(error: Error) {
      ended ??= error;
      wake();
    },
    async next(): Promise<string> {
      const deadline = setTimeout(() => {
        ended ??= new Error("no answer in time");
        wake();
      }, PATIENCE_MS);
      try {
        for (;;) {
          const text = texts.shift();
          if (text !== undefined) return text;
          if (ended !== undefined) throw ended;
          await new Promise<void>((resolve) => wake = resolve);
        }
      } finally {
        clearTimeout(deadline);
      }
    },
  };
}

async function openWebSocket({ http }: Ports): Promise<MessageConnection> {
  const socket = new WebSocket(`ws://127.0.0.1:${http}/`);
  const inbox = createInbox();
  socket.onmessage = ({ data }) => inbox.put(String(data));
  await new Promise<void>((resolve, reject) => {
    socket.onopen = () => resolve();
    socket.onclose = ({ code }) => {
      const error = new Error(`closed with ${code}`);
      inbox.end(error);
      reject(error);
    };
  });
  return { send: (text) => socket.send(text), next: inbox.next, close: () => socket.close() };
}

async function openTcp({ tcp }: Ports): Promise<MessageConnection> {
  const socket: Socket = connect({ port: tcp, host: "127.0.0.1", noDelay: true });
  const inbox = createInbox();
  let rest = "";
  socket.setEncoding("latin1").on("data", (data: string) => {
    const lines = (rest + data).split("\n");
    rest = lines.pop() as string;
    for (const line of lines) inbox.put(line);
  });
  socket.on(
    "error",
    (error: NodeJS.ErrnoException) => inbox.end(new Error(error.code ?? error.message)),
  );
  socket.on("close", () => inbox.end(new Error("closed")));
  await once(socket, "connect");
  return {
    send(text, random) {
      const half = random.between(0, text.length);
      if (half > 0) socket.write(text.slice(0, half));
      // A reload may come between the two.
      setTimeout(() => socket.write(`${text.slice(half)}\n`), random.between(0, 100));
    },
    next: inbox.next,
    close: () => socket.destroy(),
  };
}

/** A stream of datagrams, each of which is to be answered once. */
async function datagrams({ ports, signal, tally, id, pause, fail }: Context): Promise<void> {
  const socket = createSocket("udp4");
  const waiting = new Map<string, number>();
  const seen = new Set<string>();
  socket.on("error", () => {}); // Nobody listens there at the moment: the datagram is not answered.
  socket.on("message", (data) => {
    const [id = ""] = data.toString().split(" ");
    if (seen.has(id)) tally.doubled.push(`${id} is answered twice`);
    seen.add(id);
    waiting.delete(id);
  });
  const giveUp = (before: number) => {
    for (const [id, sent] of waiting) {
      if (sent > before) break;
      waiting.delete(id);
      fail(new Error("no answer to a datagram"), sent, undefined, sent + DECIDED_MS);
    }
  };
  // A socket's buffer has room for some 270: as many as may come while a process is stopped for
  // seconds.
  for (; !signal.aborted; await pause(20, 60)) {
    const datagram = id();
    waiting.set(datagram, performance.now());
    socket.send(datagram, ports.udp, "127.0.0.1");
    giveUp(performance.now() - DATAGRAM_MS);
  }
  const end = performance.now() + DATAGRAM_MS;
  while (waiting.size > 0 && performance.now() < end) await delay(20);
  giveUp(Infinity);
  socket.close();
}
