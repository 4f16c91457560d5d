/** Reloads a server under load, several times, and records what its clients notice. */
import { once } from "node:events";
import { connect } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { type Connection, openConnection } from "../../../tests/load/http1.ts";
import { startRelay } from "../../../tests/load/relay.ts";
import { startThinking } from "../../../tests/load/thinking.ts";
import { cleanUp, type TestScope } from "../../../tests/support/clean_up.ts";
import { memoryOf } from "../../../tests/support/proc.ts";
import { until } from "../../../tests/support/wait.ts";
import type { Stage } from "./stage.ts";
import type { Subject } from "./subjects.ts";

/** Which clients: on a new connection each time, on a kept one, or behind a wire, thinking. */
export type Clients = "new" | "kept" | "wire";

/** A request. Times are in milliseconds. */
export interface Sample {
  /** The number of the reload that is nearest, from 0 on. */
  readonly reload: number;
  /** Counts from the command of that reload. */
  readonly at: number;
  readonly milliseconds: number;
  readonly failed: boolean;
  readonly clients: Clients;
}

/** What came of all reloads of a subject. */
export interface Result {
  readonly subject: Subject;
  /** All requests. */
  readonly samples: readonly Sample[];
  /** By reload: milliseconds from the command until the new version answered. */
  readonly untilNew: readonly number[];
  /** By reload, of a hundred HTTP connections behind the wire: those that had to be made anew. */
  readonly cut: readonly number[];
  /** By reload, of a hundred WebSockets behind the wire: those that were closed. */
  readonly cutWebSockets: readonly number[];
  /**
   * By reload, of a hundred raw TCP connections behind the wire: those that were closed, or have
   * not come to the new version.
   */
  readonly leftTcp: readonly number[];
  /** Bytes of memory of all its processes, before the first reload. */
  readonly memory: number;
}

/** How it is measured. */
export interface Measuring {
  readonly reloads: number;
  /** Milliseconds that the wire takes in each direction. */
  readonly latency: number;
}

const CLIENTS = 8;
/** Of each kind, behind the wire. */
export const LONG_LIVED = 100;
/**
 * Milliseconds from one reload to the next, and from its end: longer than the longest pause of a
 * client that thinks.
 */
const BETWEEN_MS = 5_000;
const AFTER_MS = 3_500;
/** What belongs to a reload begins a second before its command. */
const BEFORE_MS = 1_000;
const PAUSE_MS = 2;
const PATIENCE_MS = 10_000;
const REQUEST = "GET / HTTP/1.1\r\nHost: bench\r\n\r\n";

/** A request as it was made. */
interface Made {
  readonly begun: number;
  readonly milliseconds: number;
  readonly failed: boolean;
  readonly version: string;
  readonly clients: Clients;
}

/** Measures one subject. */
export async function measure(
  subject: Subject,
  stage: Stage,
  { reloads, latency }: Measuring,
): Promise<Result> {
  const { t, port, tcpPort } = stage;
  const server = await subject.start(stage);
  const made: Made[] = [];
  const load = startLocal(port, (request) => made.push(request));
  const wire = { toServer: latency, toClient: latency };
  const http = await startRelay(t, { port }, wire);
  const tcp = await startRelay(t, { port: tcpPort }, wire);
  const thinking = startThinking(http.target, LONG_LIVED, {
    answers: "version",
    record: (begun, milliseconds, failed) =>
      made.push({ begun, milliseconds, failed, version: "", clients: "wire" }),
  });
  const sockets = createLongLived(
    t,
    subject.hasWebSockets ? () => openWebSocket(http.target.port) : undefined,
  );
  const raws = createLongLived(t, subject.hasTcp ? () => openTcp(tcp.target.port) : undefined);
  await Promise.all([sockets.fill(), raws.fill()]);
  await until(
    "the clients that think to be connected",
    () => thinking.tally.connections >= LONG_LIVED,
  );
  await delay(BEFORE_MS);
  const memory = (server.pids?.() ?? stage.pids()).reduce(
    (sum, pid) => sum + (memoryOf(pid) || 0),
    0,
  );

  const commands: number[] = [];
  const result = {
    untilNew: [] as number[],
    cut: [] as number[],
    cutWebSockets: [] as number[],
    leftTcp: [] as number[],
  };
  for (let version = 1; version <= reloads; version++) {
    await server.settled?.();
    await Promise.all([sockets.fill(), raws.fill()]);
    const { connections } = thinking.tally;
    stage.setVersion(version);
    const command = performance.now();
    commands.push(command);
    const reloading = server.reload();
    const first = await until(
      "the new version",
      () => made.find((request) => request.version === String(version)),
    );
    result.untilNew.push(first.begun + first.milliseconds - command);
    await reloading;
    await delay(Math.max(AFTER_MS, BETWEEN_MS - (performance.now() - command)));
    result.cut.push(Math.min(LONG_LIVED, thinking.tally.connections - connections));
    if (subject.hasWebSockets) {
      result.cutWebSockets.push(LONG_LIVED - await sockets.keep(() => true));
    }
    if (subject.hasTcp) {
      result.leftTcp.push(LONG_LIVED - await raws.keep((answer) => answer === String(version)));
    }
  }
  await Promise.all([load.stop(), thinking.stop()]);
  return { subject, samples: samplesOf(made, commands), memory, ...result };
}

function samplesOf(made: readonly Made[], commands: readonly number[]): Sample[] {
  return made.map(({ begun, milliseconds, failed, clients }) => {
    const reload = Math.max(0, commands.findLastIndex((command) => begun >= command - BEFORE_MS));
    return { reload, at: begun - (commands[reload] as number), milliseconds, failed, clients };
  });
}

/** Clients on the same machine, which ask all the time. */
function startLocal(port: number, record: (request: Made) => void): { stop(): Promise<unknown> } {
  let isOver = false;
  async function client(clients: "new" | "kept"): Promise<void> {
    for (let connection: Connection | undefined; !isOver; await delay(PAUSE_MS)) {
      const begun = performance.now();
      const note = (failed: boolean, version: string) =>
        record({ begun, milliseconds: performance.now() - begun, failed, version, clients });
      let isLast = clients === "new";
      try {
        // A connection that the server has closed between two requests is replaced; that is no
        // failure.
        if (connection === undefined || connection.isClosed) {
          connection = await openConnection({ port });
        }
        connection.write(REQUEST);
        const { status, body, headers } = await connection.answer();
        note(status !== 200, body);
        isLast ||= headers.get("connection")?.toLowerCase() === "close";
      } catch {
        note(true, "");
        isLast = true;
      }
      if (!isLast) continue;
      connection?.close();
      connection = undefined;
    }
  }
  const running = Promise.all(
    (["new", "kept"] as const).flatMap((kind) =>
      Array.from({ length: CLIENTS }, () => client(kind))
    ),
  );
  return {
    stop() {
      isOver = true;
      return running;
    },
  };
}

/** A connection that stays open as long as the server keeps it. */
interface LongLived {
  isOpen(): boolean;
  /** Asks, and resolves with the answer; with `undefined` when there is none. */
  ask(): Promise<string | undefined>;
  close(): void;
}

/** A hundred of them, or none where there is no way to open one. */
function createLongLived(t: TestScope, open: (() => Promise<LongLived>) | undefined) {
  let all: LongLived[] = [];
  cleanUp(t, () => all.forEach((one) => one.close()));
  return {
    /** Opens as many as are missing. */
    async fill(): Promise<void> {
      if (open === undefined) return;
      const opened = await Promise.all(Array.from({ length: LONG_LIVED - all.length }, open));
      // One answer each: it is the server's then, not only the wire's.
      await Promise.all(opened.map((one) => one.ask()));
      all.push(...opened);
    },
    /**
     * Closes those that are closed already, or whose answer is not good. Returns how many are left.
     */
    async keep(isGood: (answer: string) => boolean): Promise<number> {
      const good = await Promise.all(all.map(async (one) => {
        const answer = one.isOpen() ? await one.ask() : undefined;
        return answer !== undefined && isGood(answer);
      }));
      all.forEach((one, i) => good[i] || one.close());
      all = all.filter((_, i) => good[i]);
      return all.length;
    },
  };
}

/** What comes first: an answer, or that there is none in time. */
async function inTime(
  ask: (answered: (text: string) => void) => void,
): Promise<string | undefined> {
  const { promise, resolve } = Promise.withResolvers<string | undefined>();
  const timer = setTimeout(() => resolve(undefined), PATIENCE_MS);
  ask(resolve);
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
  }
}

async function openWebSocket(port: number): Promise<LongLived> {
  const socket = new WebSocket(`ws://127.0.0.1:${port}/`);
  await new Promise((resolve, reject) => {
    socket.onopen = resolve;
    socket.onerror = () => reject(new Error("a WebSocket cannot be opened"));
  });
  socket.onerror = () => {};
  return {
    close: () => socket.close(),
    isOpen: () => socket.readyState === WebSocket.OPEN,
    ask: () =>
      inTime((answered) => {
        socket.onmessage = ({ data }) => answered(String(data));
        socket.send("question");
      }),
  };
}

async function openTcp(port: number): Promise<LongLived> {
  const socket = connect(port, "127.0.0.1");
  await once(socket, "connect");
  let answered = (_: string) => {};
  socket.on("error", () => {}).on("end", () => socket.destroy()).on(
    "data",
    (data) => answered(String(data).trim()),
  );
  return {
    close: () => void socket.destroy(),
    isOpen: () => !socket.destroyed,
    ask: () =>
      inTime((resolve) => {
        answered = resolve;
        socket.write("question\n");
      }),
  };
}
