/** The clients of the demo, and what they have counted. */
import { setTimeout as delay } from "node:timers/promises";
import { type Connection, openConnection } from "../../tests/load/http1.ts";

/** What the clients of one server have seen. */
export interface Counts {
  requests: number;
  failed: number;
  /**
   * Kept connections, and WebSockets, that the server has closed: the client had to connect again.
   */
  reconnected: number;
  /** Messages on WebSockets that were answered, each by the next number. */
  messages: number;
  /** The longest that a request took, in milliseconds. */
  slowest: number;
  /** How often each version has answered. */
  versions: Map<string, number>;
  /** What went wrong first, if anything. */
  problem?: string;
}

/** How many clients each server has. */
export const CLIENTS = { fresh: 4, kept: 4, webSockets: 10 };

const PAUSE_MS = 10;
const TICK_MS = 50;

/** Asks a server all the time, until `stop()`. */
export function startClients(port: number): { counts: Counts; stop(): Promise<void> } {
  const counts: Counts = {
    requests: 0,
    failed: 0,
    reconnected: 0,
    messages: 0,
    slowest: 0,
    versions: new Map(),
  };
  let isOver = false;

  function fail(what: string): void {
    counts.failed++;
    counts.problem ??= what;
  }

  function reconnect(what: string): void {
    counts.reconnected++;
    counts.problem ??= what;
  }

  /** One request; with `connection`, on that. Returns the connection if it can be used again. */
  async function ask(
    connection: Connection | undefined,
    keep: boolean,
  ): Promise<Connection | undefined> {
    const begun = performance.now();
    let current = connection;
    try {
      current ??= await openConnection({ port });
      current.write(`GET / HTTP/1.1\r\nHost: demo\r\n${keep ? "" : "Connection: close\r\n"}\r\n`);
      const { status, body, headers } = await current.answer();
      if (status !== 200) throw new Error(`status ${status}`);
      const { version } = JSON.parse(body) as { version: string };
      counts.versions.set(version, (counts.versions.get(version) ?? 0) + 1);
      if (keep && headers.get("connection") !== "close") return current;
      if (keep) reconnect("a kept connection was closed by its answer");
    } catch (error) {
      fail(
        `a request on a ${keep ? "kept" : "new"} connection failed: ${(error as Error).message}`,
      );
    } finally {
      counts.requests++;
      counts.slowest = Math.max(counts.slowest, performance.now() - begun);
    }
    current?.close();
    return undefined;
  }

  async function askAll(keep: boolean): Promise<void> {
    let connection: Connection | undefined;
    while (!isOver) {
      connection = await ask(connection, keep);
      await delay(PAUSE_MS);
      if (connection?.isClosed === true) {
        reconnect("a kept connection was closed between two requests");
        connection = undefined;
      }
    }
    connection?.close();
  }

  /**
   * Sends a message, waits for the next number, and so on. A number that is not the next one is a
   * lost or doubled message.
   */
  async function count(): Promise<void> {
    while (!isOver) {
      const socket = new WebSocket(`ws://127.0.0.1:${port}/`);
      let sent = 0;
      let timer: ReturnType<typeof setTimeout> | undefined;
      const send = () => isOver ? socket.close() : socket.send(String(++sent));
      socket.onopen = send;
      socket.onmessage = ({ data }) => {
        if (Number(data) === sent) counts.messages++;
        else fail(`message ${sent} of a WebSocket was counted as ${data}`);
        timer = setTimeout(send, TICK_MS);
      };
      const code = await new Promise<number>((resolve) =>
        socket.onclose = (event) => resolve(event.code)
      );
      clearTimeout(timer);
      if (!isOver) reconnect(`a WebSocket was closed with ${code}`);
    }
  }

  const all = [
    ...Array.from({ length: CLIENTS.fresh }, () => askAll(false)),
    ...Array.from({ length: CLIENTS.kept }, () => askAll(true)),
    ...Array.from({ length: CLIENTS.webSockets }, count),
  ];
  return {
    counts,
    async stop() {
      isOver = true;
      await Promise.all(all);
    },
  };
}
