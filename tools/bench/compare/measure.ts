/** Reloads a server under load, several times, and records what its clients notice. */
import { writeFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { type Connection, openConnection } from "../../../tests/load/http1.ts";
import { cleanUp } from "../../../tests/support/clean_up.ts";
import { memoryOf } from "../../../tests/support/proc.ts";
import { until } from "../../../tests/support/wait.ts";
import type { Stage, Subject } from "./subjects.ts";

/** A request. Times are in milliseconds. */
export interface Sample {
  /** The number of the reload that is nearest, from 0 on. */
  readonly reload: number;
  /** Counts from the command of that reload. */
  readonly at: number;
  readonly milliseconds: number;
  readonly failed: boolean;
  /** On a connection that is kept, or on one of its own? */
  readonly keepsAlive: boolean;
}

/** What came of all reloads of a subject. */
export interface Result {
  readonly subject: Subject;
  /** All requests, in the order of their beginning. */
  readonly samples: readonly Sample[];
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

  const requests: { begun: number; milliseconds: number; failed: boolean; version: string; keepsAlive: boolean }[] = [];
  let isOver = false;
  async function client(keepsAlive: boolean): Promise<void> {
    for (let connection: Connection | undefined; !isOver; await delay(THINK_MS)) {
      const begun = performance.now();
      const record = (failed: boolean, version: string) =>
        requests.push({ begun, milliseconds: performance.now() - begun, failed, version, keepsAlive });
      let isLast = !keepsAlive;
      try {
        // A connection that the server has closed between two requests is replaced; that is no failure.
        if (connection === undefined || connection.isClosed) connection = await openConnection({ port });
        connection.write(REQUEST);
        const { status, body, headers } = await connection.answer();
        record(status !== 200, body);
        isLast ||= headers.get("connection")?.toLowerCase() === "close";
      } catch {
        record(true, "");
        isLast = true;
      }
      if (!isLast) continue;
      connection?.close();
      connection = undefined;
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
  const samples = requests.map(({ begun, milliseconds, failed, keepsAlive }) => {
    const reload = Math.max(0, commands.findLastIndex((command) => begun >= command - BETWEEN_MS / 4));
    return { reload, at: begun - (commands[reload] as number), milliseconds, failed, keepsAlive };
  });
  return { subject, samples, untilNew, closed, closedWebSockets, memory };
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
