/**
 * Many connections across a reload: how fast they move, and how long their clients wait meanwhile.
 */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { cleanUp, type TestScope } from "../../tests/support/clean_up.ts";
import { quantile } from "../../tests/support/median.ts";
import { memoryOf } from "../../tests/support/proc.ts";
import { fixture, type Program, startProgram } from "../../tests/support/program.ts";
import type { Runtime } from "../../tests/support/runtimes.ts";
import { until } from "../../tests/support/wait.ts";

/** What was measured. Times are in milliseconds. */
export interface Move {
  readonly moved: number;
  readonly left: number;
  readonly perSecond: number;
  /** From the signal until the new process was in charge. */
  readonly inCharge: number;
  /** How long they moved. */
  readonly moving: number;
  /** The longest wait of each client that was asking all the time. */
  readonly waits: { readonly median: number; readonly p99: number; readonly max: number };
  readonly cut: number;
  /**
   * Bytes of memory: of the old process before the reload, and the most that each process had
   * during the move.
   */
  readonly memory: { readonly before: number; readonly old: number; readonly next: number };
}

/** How many of the clients ask all the time; the others are silent. */
const ASKING = 100;
/** Milliseconds between an answer and the next question. */
const THINK_MS = 10;
/** How many connect at a time: more would not fit into the queue of the server's socket. */
const AT_A_TIME = 200;

/** A client that asks again and again. */
export interface Asking {
  /** The longest wait for an answer so far. */
  longest: number;
  answers: number;
}

/**
 * What is connected: clients of node:net and `token.live()`, WebSockets, or clients of HTTP, all of
 * which but a hundred are idle.
 */
export type Kind = "connections" | "WebSockets" | "HTTP";

/** A question: a line, a message in a frame (RFC 6455, section 5.2), or a request. */
export const QUESTIONS: Readonly<Record<Kind, string>> = {
  connections: "question\n",
  WebSockets: "\x81\x88\0\0\0\0question",
  HTTP: "GET /1/10/1/0 HTTP/1.1\r\nHost: bench\r\n\r\n",
};
const HANDSHAKE =
  "GET / HTTP/1.1\r\nHost: bench\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
/** What a connection begins with: after the answer to it there is one that the server knows. */
const FIRST: Readonly<Record<Kind, string | undefined>> = {
  connections: undefined,
  WebSockets: HANDSHAKE,
  HTTP: QUESTIONS.HTTP,
};

/** Asks again and again. */
export function keepAsking(socket: Socket, question: string): Asking {
  const asking = { longest: 0, answers: 0 };
  let asked = 0;
  const ask = () => {
    asked = performance.now();
    socket.write(question, "latin1");
  };
  socket.on("data", () => {
    asking.longest = Math.max(asking.longest, performance.now() - asked);
    asking.answers++;
    setTimeout(ask, THINK_MS);
  });
  ask();
  return asking;
}

/** Follows the memory of a process. Returns the most that it had. */
export function followMemory(pid: number): () => number {
  let most = 0;
  const timer = setInterval(() => most = Math.max(most, memoryOf(pid) || 0), 100);
  return () => {
    clearInterval(timer);
    return most;
  };
}

/** Connections to a server. */
export interface Opened {
  readonly sockets: readonly Socket[];
  /** How many were closed by the server. */
  cut(): number;
}

/** Opens so many, to each of the ports in turns. */
export async function openConnections(
  t: TestScope,
  ports: readonly number[],
  kind: Kind,
  count: number,
): Promise<Opened> {
  const sockets: Socket[] = [];
  let cut = 0;
  let isOver = false;
  cleanUp(t, () => {
    isOver = true;
    for (const socket of sockets) socket.destroy();
  });
  while (sockets.length < count) {
    const some = Array.from(
      { length: Math.min(AT_A_TIME, count - sockets.length) },
      (_, i) => connect(ports[(sockets.length + i) % ports.length] as number, "127.0.0.1"),
    );
    for (const socket of some) {
      socket.on("error", () => {}).on("close", () => isOver || cut++);
      socket.on("end", () => socket.destroy());
    }
    sockets.push(...some);
    await Promise.all(some.map((socket) => once(socket, "connect")));
    const first = FIRST[kind];
    if (first === undefined) continue;
    await Promise.all(some.map((socket) => {
      socket.write(first);
      return once(socket, "data");
    }));
  }
  return { sockets, cut: () => cut };
}

/** Starts the server for a kind of clients. */
function startFor(t: TestScope, runtime: Runtime, kind: Kind, isIndependent: boolean): Program {
  if (kind === "HTTP") {
    const setup = {
      kind: runtime.kind === "node" ? "http" : "adopted",
      options: { probation: 1_000, idleGrace: 1_000 },
    };
    return startProgram(t, runtime, {
      script: fixture("server.ts"),
      env: { SERVER: JSON.stringify(setup) },
    });
  }
  return startProgram(t, runtime, {
    script: fixture(kind === "WebSockets" ? "echo_web_sockets.ts" : "live.ts"),
    env: { PROBATION: "1000", ...(isIndependent && { INDEPENDENT: "1" }) },
  });
}

/** Connects so many clients to a server, and reloads it once. */
export async function moveConnections(
  t: TestScope,
  runtime: Runtime,
  kind: Kind,
  count: number,
  isIndependent: boolean,
): Promise<Move> {
  const program = startFor(t, runtime, kind, isIndependent);
  const { pid, port, ports = [port] } = await program.report("serving");
  const { sockets, cut } = await openConnections(t, ports, kind, count);
  const before = memoryOf(pid);
  // They are spread over all: each waits for those that move before it.
  const asking = sockets.filter((_, i) => i % Math.ceil(count / ASKING) === 0).map((socket) =>
    keepAsking(socket, QUESTIONS[kind])
  );
  const begun = performance.now();
  program.signal(pid);
  const next = (await program.report("serving", { generation: 1 })).pid;
  const [old, successor] = [followMemory(pid), followMemory(next)];
  await program.report("in-charge", { generation: 1 });
  const inCharge = performance.now() - begun;
  // The fields of the event: its pid is the new process.
  const { moved, left, milliseconds } = await program.report(
    "connections-move",
    ({ generation }) => generation === 0,
  );
  for (const client of asking) client.answers = 0;
  await until("all to be answered again", () => asking.every(({ answers }) => answers > 1));
  const memory = { before, old: old(), next: successor() };
  const waits = asking.map(({ longest }) => longest);
  return {
    moved,
    left,
    perSecond: moved / milliseconds * 1000,
    inCharge,
    moving: milliseconds,
    waits: { median: quantile(waits, 0.5), p99: quantile(waits, 0.99), max: quantile(waits, 1) },
    cut: cut(),
    memory,
  };
}
