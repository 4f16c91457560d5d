/**
 * The load generator: clients that check every answer byte for byte, and count each way to fail. A
 * connection that the server closes between two requests is no failure, nor is a pipelined request
 * behind an answer with `Connection: close`: the server says with it that it has not begun it (RFC
 * 9112, section 9.6). Nor is a stream of HTTP/2 that a GOAWAY says was not begun (RFC 9113, section
 * 6.8). Such a request is sent again, and counted.
 */
import { type ClientHttp2Session, connect as connectHttp2, constants } from "node:http2";
import { setTimeout as delay } from "node:timers/promises";
import { type Answer, type Connection, openConnection, type Target } from "./http1.ts";
import { type Ask, pathOf, pattern } from "./pattern.ts";

export type { Target } from "./http1.ts";

/** What kinds of clients there are. */
export type ClientKind = "new" | "keep" | "http2" | "websocket";

/** What came of it. */
export interface Tally {
  /** Requests with the right answer. */
  ok: number;
  /** Pipelined requests that the server gave back untouched. */
  again: number;
  /** Connections that were opened. */
  connections: number;
  /** The failures, by kind. */
  failures: Map<string, number>;
  /** The generations that answered. */
  generations: Map<number, number>;
}

/** A load under way. */
export interface Load {
  readonly tally: Tally;
  /** Lets the clients finish what they have begun. */
  stop(): Promise<Tally>;
}

/** How many failures there were. */
export function failureCount({ failures }: Tally): number {
  return [...failures.values()].reduce((sum, count) => sum + count, 0);
}

/** The tally on one line. */
export function describeTally(tally: Tally): string {
  const failures = [...tally.failures].map(([kind, count]) => `${count} ${kind}`).join(", ");
  return `${failureCount(tally)} failures${
    failures && ` (${failures})`
  }, ${tally.ok} right answers, ${tally.connections} connections, ` +
    `${tally.again} given back, generations ${
      [...tally.generations.keys()].sort((a, b) => a - b).join(" ")
    }`;
}

/** Starts `count` clients of one kind. */
export function startLoad(kind: ClientKind, target: Target, count: number): Load {
  const tally: Tally = {
    ok: 0,
    again: 0,
    connections: 0,
    failures: new Map(),
    generations: new Map(),
  };
  let stopped = false;
  let seed = 0;

  function fail(error: unknown, during = ""): void {
    const { code, message } = error as NodeJS.ErrnoException;
    const what = `${message.startsWith("truncated") ? message : code ?? message}${
      during && ` (${during})`
    }`;
    tally.failures.set(what, (tally.failures.get(what) ?? 0) + 1);
  }

  function check(answer: Answer, expected: string): void {
    if (answer.status !== 200) return fail(new Error(`status ${answer.status}`));
    if (answer.body !== expected) return fail(new Error("wrong bytes"));
    const generation = Number(answer.headers.get("x-generation"));
    tally.generations.set(generation, (tally.generations.get(generation) ?? 0) + 1);
    tally.ok++;
  }

  function next(ask: Partial<Ask> = {}): Ask {
    return { seed: ++seed, size: 20 + seed % 180, pieces: 1, delay: 0, ...ask };
  }

  function get(ask: Ask, close = false): { text: string; expected: string } {
    const text = `GET ${pathOf(ask)} HTTP/1.1\r\nHost: load\r\n${
      close ? "Connection: close\r\n" : ""
    }\r\n`;
    return { text, expected: pattern(ask.seed, ask.size) };
  }

  function post(ask: Ask): { text: string; expected: string } {
    const expected = pattern(ask.seed, ask.size);
    return {
      text:
        `POST / HTTP/1.1\r\nHost: load\r\nContent-Length: ${expected.length}\r\n\r\n${expected}`,
      expected,
    };
  }

  async function open(): Promise<Connection | undefined> {
    try {
      const connection = await openConnection(target);
      tally.connections++;
      return connection;
    } catch (error) {
      fail(error);
      await delay(5); // Or a server that is gone keeps the processor busy.
      return undefined;
    }
  }

  /** A connection for each request. */
  async function newClient(): Promise<void> {
    while (!stopped) {
      const connection = await open();
      if (connection === undefined) continue;
      const { text, expected } = get(next(), true);
      connection.write(text);
      try {
        check(await connection.answer(), expected);
      } catch (error) {
        fail(error);
      }
      connection.close();
    }
  }

  /**
   * One connection for as long as the server keeps it; a request, or several at once, every 2 ms.
   */
  async function keepClient(index: number): Promise<void> {
    let connection: Connection | undefined;
    let pending: { text: string; expected: string; upload?: boolean }[] = [];
    for (let turn = index; !stopped; turn++) {
      if (connection === undefined || connection.isClosed) connection = await open();
      if (connection === undefined) continue;
      if (pending.length === 0) {
        switch (turn % 8) {
          case 1: // pipelined
            pending = [get(next()), get(next()), get(next())];
            break;
          case 3: // streamed, slowly
            pending = [get(next({ size: 3_000, pieces: 3, delay: 5 }))];
            break;
          case 5:
            pending = [post(next({ size: 2_000 }))];
            break;
          case 6: // sent slowly
            pending = [{ ...post(next({ size: 2_000 })), upload: true }];
            break;
          case 7: // slow
            pending = [get(next({ pieces: 2, delay: 20 }))];
            break;
          default:
            pending = [get(next())];
        }
      }
      if (pending[0]?.upload) {
        const { text } = pending[0];
        const half = text.length >> 1;
        connection.write(text.slice(0, half));
        await delay(5);
        connection.write(text.slice(half));
      } else connection.write(pending.map(({ text }) => text).join(""));
      try {
        for (let first = pending[0]; first !== undefined; first = pending[0]) {
          const answer = await connection.answer();
          check(answer, first.expected);
          pending.shift();
          if (answer.headers.get("connection")?.toLowerCase() === "close") {
            tally.again += pending.length;
            connection.close();
            connection = undefined;
            break;
          }
        }
      } catch (error) {
        fail(error, pending.map(({ text }) => text.split("\r\n")[0]).join(" | "));
        pending = [];
        connection?.close();
        connection = undefined;
      }
      await delay(2);
    }
    connection?.close();
  }

  /** Streams of one session at a time, for as long as the server keeps it. */
  async function http2Client(): Promise<void> {
    const told = new WeakSet<ClientHttp2Session>();
    let session: ClientHttp2Session | undefined;
    let open = 0;
    while (!stopped) {
      if (session === undefined || session.closed || session.destroyed) {
        session = connectHttp2(`${target.tls ? "https" : "http"}://127.0.0.1:${target.port}`, {
          rejectUnauthorized: false,
        });
        const opened = session;
        session.on("error", (error) => open > 0 && fail(error));
        session.on("goaway", () => told.add(opened));
        tally.connections++;
      }
      const current: ClientHttp2Session = session;
      const asks = [next(), next({ size: 3_000, pieces: 3, delay: 5 }), next()];
      open += asks.length;
      await Promise.all(asks.map((ask) => stream(current, ask, () => told.has(current))));
      open -= asks.length;
      await delay(2);
    }
    session?.close();
  }

  function stream(session: ClientHttp2Session, ask: Ask, isTold: () => boolean): Promise<void> {
    return new Promise((resolve) => {
      let body = "";
      let headers: Record<string, unknown> = {};
      const stream = session.request({ ":path": pathOf(ask) });
      stream.setEncoding("latin1");
      stream.on("response", (received) => headers = received);
      stream.on("data", (data) => body += data);
      stream.on("error", () => {}); // The close that follows says more.
      stream.on("close", () => {
        if (stream.rstCode === constants.NGHTTP2_REFUSED_STREAM && isTold()) tally.again++;
        else if (stream.rstCode !== constants.NGHTTP2_NO_ERROR) {
          fail(new Error(`stream reset: ${stream.rstCode}`));
        } else {
          check({
            status: Number(headers[":status"]),
            headers: new Map([["x-generation", String(headers["x-generation"])]]),
            body,
          }, pattern(ask.seed, ask.size));
        }
        resolve();
      });
    });
  }

  /** Messages that come back, over one WebSocket at a time. */
  async function webSocketClient(): Promise<void> {
    while (!stopped) {
      const socket = new WebSocket(`ws://127.0.0.1:${target.port}/`);
      const closed = Promise.withResolvers<CloseEvent>();
      const inbox: ((text: string | undefined) => void)[] = [];
      socket.onmessage = ({ data }) => inbox.shift()?.(data);
      socket.onclose = (event) => {
        closed.resolve(event as CloseEvent);
        for (const take of inbox.splice(0)) take(undefined);
      };
      const opened = await new Promise<boolean>((resolve) => {
        socket.onopen = () => resolve(true);
        socket.onerror = () => resolve(false);
      });
      if (!opened) {
        fail(new Error("no WebSocket"));
        await delay(5);
        continue;
      }
      tally.connections++;
      let unanswered = 0;
      while (!stopped && socket.readyState === WebSocket.OPEN) {
        const text = pattern(++seed, 100);
        unanswered++;
        const answer = await new Promise<string | undefined>((resolve) => {
          inbox.push(resolve);
          socket.send(text);
        });
        if (answer === undefined) break;
        unanswered--;
        if (answer === text) tally.ok++;
        else fail(new Error("wrong bytes"));
        await delay(2);
      }
      if (stopped) socket.close();
      const { code } = await closed.promise;
      // A message that crosses the 1001 is the application's to send again: the WebSocket is closed
      // in good order.
      if (!stopped && code !== 1001) fail(new Error(`closed with ${code}`));
      else tally.again += unanswered;
    }
  }

  const clients = {
    new: newClient,
    keep: keepClient,
    http2: http2Client,
    websocket: webSocketClient,
  };
  const running = Promise.all(Array.from({ length: count }, (_, i) => clients[kind](i)));
  return {
    tally,
    async stop() {
      stopped = true;
      await running;
      return tally;
    },
  };
}
