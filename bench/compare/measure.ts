/** Reloads a server under load, several times, and records what its clients notice. */
import { writeFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { type Connection, openConnection } from "../../tests/load/http1.ts";
import { cleanUp } from "../../tests/support/clean_up.ts";
import { memoryOf } from "../../tests/support/proc.ts";
import { until } from "../../tests/support/wait.ts";
import type { Stage, Subject } from "./subjects.ts";

/** A request. Times are in milliseconds; `at` counts from the command of the reload that is nearest. */
export interface Sample {
  readonly at: number;
  readonly milliseconds: number;
  readonly failed: boolean;
}

/** What came of all reloads of a subject. */
export interface Result {
  readonly subject: Subject;
  /** All requests, in the order of their beginning. */
  readonly samples: readonly Sample[];
  /** By reload: the requests that failed. */
  readonly failures: readonly number[];
  /** By reload: milliseconds from the command until the new version answered. */
  readonly untilNew: readonly number[];
  /** By reload, of a hundred idle keep-alive connections: those that the server closed. */
  readonly closed: readonly number[];
  /** By reload, of a hundred WebSockets: those that the server closed. */
  readonly closedWebSockets: readonly number[];
  /** Bytes of memory of all its processes, before the first reload. */
  readonly memory: number;
}

const NEW_CLIENTS = 8;
const KEEP_CLIENTS = 8;
const LONG_LIVED = 100;
/** Milliseconds from one reload to the next: a second around the command counts as the reload. */
const BETWEEN_MS = 4_000;
const THINK_MS = 2;
const REQUEST = "GET / HTTP/1.1\r\nHost: bench\r\n\r\n";

/** Measures one subject. */
export async function measure(subject: Subject, stage: Stage, reloads: number): Promise<Result> {
  const { port } = stage;
  const setVersion = (version: number) => writeFileSync(join(stage.folder, "version"), String(version));
  setVersion(0);
  const server = await subject.start(stage);

  const requests: { begun: number; milliseconds: number; failed: boolean; version: string }[] = [];
  let isOver = false;
  /** Returns whether the connection can be used again. */
  async function ask(connection: Connection): Promise<boolean> {
    const begun = performance.now();
    try {
      connection.write(REQUEST);
      const { status, body, headers } = await connection.answer();
      requests.push({ begun, milliseconds: performance.now() - begun, failed: status !== 200, version: body });
      return headers.get("connection")?.toLowerCase() !== "close";
    } catch {
      requests.push({ begun, milliseconds: performance.now() - begun, failed: true, version: "" });
      return false;
    }
  }
  async function open(): Promise<Connection | undefined> {
    const begun = performance.now();
    try {
      return await openConnection({ port });
    } catch {
      requests.push({ begun, milliseconds: performance.now() - begun, failed: true, version: "" });
      return undefined;
    }
  }
  async function client(keeps: boolean): Promise<void> {
    for (let connection: Connection | undefined; !isOver; await delay(THINK_MS)) {
      // A connection that the server has closed between two requests is replaced; that is no failure.
      if (connection === undefined || connection.isClosed) connection = await open();
      if (connection === undefined) continue;
      if (!await ask(connection) || !keeps) {
        connection.close();
        connection = undefined;
      }
    }
  }
  const clients = [
    ...Array.from({ length: NEW_CLIENTS }, () => client(false)),
    ...Array.from({ length: KEEP_CLIENTS }, () => client(true)),
  ];

  const idle = createLongLived(stage, (opened) => openIdle(port, opened));
  const sockets = createLongLived(stage, (opened) => subject.hasWebSockets ? openWebSocket(port, opened) : undefined);
  await delay(1_000);
  const memory = (server.pids?.() ?? stage.pids()).reduce((sum, pid) => sum + (memoryOf(pid) || 0), 0);
  const commands: number[] = [];
  const untilNew: number[] = [];
  const closed: number[] = [];
  const closedWebSockets: number[] = [];
  for (let version = 1; version <= reloads; version++) {
    await Promise.all([idle.fill(LONG_LIVED), subject.hasWebSockets ? sockets.fill(LONG_LIVED) : undefined]);
    setVersion(version);
    const command = performance.now();
    commands.push(command);
    const reloading = server.reload();
    const first = await until("the new version", () => requests.find((request) => request.version === String(version)));
    untilNew.push(first.begun + first.milliseconds - command);
    await reloading;
    await delay(Math.max(0, BETWEEN_MS - (performance.now() - command)));
    closed.push(LONG_LIVED - idle.count);
    if (subject.hasWebSockets) closedWebSockets.push(LONG_LIVED - sockets.count);
  }
  isOver = true;
  await Promise.all(clients);
  const nearest = (time: number) => commands.findLast((command) => time >= command - BETWEEN_MS / 4) ?? commands[0] as number;
  const samples = requests.map(({ begun, milliseconds, failed }) => ({ at: begun - nearest(begun), milliseconds, failed }));
  const failures = commands.map((command) =>
    requests.filter(({ begun, failed }) => failed && nearest(begun) === command).length
  );
  return { subject, samples, failures, untilNew, closed, closedWebSockets, memory };
}

/** Connections that stay open as long as the server keeps them. */
function createLongLived(stage: Stage, open: (opened: () => void) => { close(): void; isOpen(): boolean } | undefined) {
  let all: { close(): void; isOpen(): boolean }[] = [];
  cleanUp(stage.t, () => all.forEach((one) => one.close()));
  const count = () => all.filter((one) => one.isOpen()).length;
  return {
    get count() {
      return count();
    },
    /** Opens as many as are missing. */
    async fill(wanted: number): Promise<void> {
      all = all.filter((one) => one.isOpen());
      const missing = wanted - all.length;
      await Promise.all(Array.from({ length: missing }, () =>
        new Promise<void>((resolve) => {
          const one = open(resolve);
          if (one !== undefined) all.push(one);
        })));
    },
  };
}

/** A keep-alive connection that has had one answer. */
function openIdle(port: number, opened: () => void) {
  const socket: Socket = connect(port, "127.0.0.1", () => socket.write(REQUEST));
  socket.once("data", opened);
  socket.on("error", () => {});
  socket.on("end", () => socket.destroy());
  return { close: () => void socket.destroy(), isOpen: () => !socket.destroyed };
}

function openWebSocket(port: number, opened: () => void) {
  const socket = new WebSocket(`ws://127.0.0.1:${port}/`);
  socket.onopen = opened;
  return { close: () => socket.close(), isOpen: () => socket.readyState === WebSocket.OPEN };
}
