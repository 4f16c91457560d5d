/**
 * Clients as they are behind a wire: each holds one connection, thinks, asks, and never asks again
 * what has failed. Most of the time their connections are idle, so that a reload meets nearly all
 * of them between two requests.
 */
import { setTimeout as delay } from "node:timers/promises";
import { type Connection, openConnection, type Target } from "./http1.ts";
import { pathOf, pattern } from "./pattern.ts";

/** How they think, and what they send. */
export interface ThinkingOptions {
  /** Milliseconds from an answer to the next request: at least, at most. Default: 200 and 3 000. */
  least?: number;
  most?: number;
  /** Bytes of the largest body. Default: 20 000. */
  mostBody?: number;
  /**
   * Whether every third request has a body that the application does not read: the fixture reads
   * that of a POST only. The servers of node:http read on to the next request; others may close the
   * connection. Default: false.
   */
  unread?: boolean;
  /**
   * What the server answers with: `pattern` as tests/fixtures/server.ts does, `version` with
   * nothing but the number of its version, whatever is asked. Every request is a POST then.
   * Default: `pattern`.
   */
  answers?: "pattern" | "version";
  /**
   * Is told of each request. Times are in milliseconds, the first one on the clock of
   * `performance.now()`.
   */
  record?(begun: number, milliseconds: number, failed: boolean): void;
}

/** What came of it. */
export interface ThinkingTally {
  /** Requests that were made. */
  requests: number;
  /** Those that did not get their whole answer, by kind. */
  failures: Map<string, number>;
  /** Connections that were opened, the first one of each client too. */
  connections: number;
  /**
   * The longest time from a request, or from the connection that it had to make first, to the whole
   * answer, in milliseconds.
   */
  longest: number;
}

/** Clients at work. */
export interface Thinking {
  readonly tally: ThinkingTally;
  /** How many clients were answered by this generation last. */
  answeredBy(generation: number): number;
  /** Lets the clients finish the requests that they have made. */
  stop(): Promise<ThinkingTally>;
}

/** The tally on one line. */
export function describeThinking(
  { requests, failures, connections, longest }: ThinkingTally,
): string {
  const kinds = [...failures].map(([kind, count]) => `${count} ${kind}`).join(", ");
  return `${failed(failures)} of ${requests} requests failed${
    kinds && ` (${kinds})`
  }, ${connections} connections made, ` +
    `longest wait ${Math.round(longest)} ms`;
}

/** How many requests failed. */
export function failed(failures: ReadonlyMap<string, number>): number {
  return [...failures.values()].reduce((sum, count) => sum + count, 0);
}

/** Starts `count` clients of a server. */
export function startThinking(
  target: Target,
  count: number,
  { least = 200, most = 3_000, mostBody = 20_000, unread = false, answers = "pattern", record }:
    ThinkingOptions = {},
): Thinking {
  const tally: ThinkingTally = { requests: 0, failures: new Map(), connections: 0, longest: 0 };
  const generations: number[] = [];
  const stopping = new AbortController();
  const { signal } = stopping;
  const think = () =>
    delay(least + Math.random() * (most - least), undefined, { signal }).catch(() => {});

  async function open(): Promise<Connection> {
    const connection = await openConnection(target);
    tally.connections++;
    return connection;
  }

  /**
   * Makes a request, and checks its answer to the last byte. Returns whether the connection stays.
   */
  async function ask(connection: Connection, client: number, turn: number): Promise<boolean> {
    const ask = {
      seed: client * 10_000 + turn,
      size: Math.floor(Math.random() * (mostBody + 1)),
      pieces: 1,
      delay: 0,
    };
    const expected = pattern(ask.seed, ask.size);
    const saysVersion = answers === "version";
    const kind = saysVersion ? 0 : (client + turn) % (unread ? 3 : 2);
    const head = `${kind === 0 ? "POST /" : `GET ${pathOf(ask)}`} HTTP/1.1\r\nHost: wire\r\n`;
    connection.write(
      kind === 1 ? `${head}\r\n` : `${head}Content-Length: ${ask.size}\r\n\r\n${expected}`,
    );
    const { status, headers, body } = await connection.answer();
    if (status !== 200) throw new Error(`status ${status}`);
    if (saysVersion ? !/^\d+$/.test(body) : body !== expected) throw new Error("wrong bytes");
    if (connection.isAnswering) throw new Error("more bytes than an answer");
    generations[client] = Number(saysVersion ? body : headers.get("x-generation"));
    return headers.get("connection")?.toLowerCase() !== "close";
  }

  async function run(client: number): Promise<void> {
    // A connection without a request is one that a reload meets, too.
    let connection = await open().catch(() => undefined);
    for (let turn = 0;; turn++) {
      await think();
      if (signal.aborted) break;
      const begun = performance.now();
      let hasFailed = false;
      tally.requests++;
      try {
        if (connection === undefined || connection.isClosed) connection = await open();
        if (!await ask(connection, client, turn)) {
          connection.close();
          connection = undefined;
        }
      } catch (error) {
        const { code, message } = error as NodeJS.ErrnoException;
        const kind = code ?? message;
        hasFailed = true;
        tally.failures.set(kind, (tally.failures.get(kind) ?? 0) + 1);
        connection?.close();
        connection = undefined;
      }
      const milliseconds = performance.now() - begun;
      tally.longest = Math.max(tally.longest, milliseconds);
      record?.(begun, milliseconds, hasFailed);
    }
    connection?.close();
  }

  const running = Promise.all(Array.from({ length: count }, (_, client) => run(client)));
  return {
    tally,
    answeredBy: (generation) => generations.filter((last) => last === generation).length,
    async stop() {
      stopping.abort();
      await running;
      return tally;
    },
  };
}
