/**
 * An HTTP/1.1 client that knows what became of each request, to the byte: what a library for
 * clients would repair in silence.
 */
import { connect, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";

/** Where to connect. */
export interface Target {
  port?: number;
  host?: string;
  path?: string;
  tls?: boolean;
}

/** An answer. */
export interface Answer {
  status: number;
  headers: Map<string, string>;
  body: string;
}

/** One connection. Answers come in the order of the requests. */
export interface Connection {
  /** Resolves with the next answer; rejects when the connection ends before. */
  answer(): Promise<Answer>;
  write(text: string): void;
  /** Has a part of an answer come? */
  readonly isAnswering: boolean;
  /** Has the server ended the connection? */
  readonly isClosed: boolean;
  close(): void;
}

/** How long an answer may take. */
const PATIENCE = 20_000;

/** Opens a connection. Rejects when it is refused. */
export function openConnection(
  { port, host = "127.0.0.1", path, tls }: Target,
): Promise<Connection> {
  return new Promise((resolve, reject) => {
    const options = path !== undefined ? { path } : { port: port as number, host, noDelay: true };
    const socket: Socket = tls
      ? connectTls({ ...options, rejectUnauthorized: false, ALPNProtocols: ["http/1.1"] })
      : connect(options);
    socket.once("error", reject);
    socket.once(tls ? "secureConnect" : "connect", () => {
      socket.off("error", reject);
      resolve(follow(socket));
    });
  });
}

function follow(socket: Socket): Connection {
  let received = "";
  let ended: Error | undefined;
  let waiting: { resolve(answer: Answer): void; reject(error: Error): void } | undefined;
  socket.setEncoding("latin1");

  function look(): void {
    if (waiting === undefined) return;
    let result: { answer: Answer; rest: string } | undefined;
    try {
      result = parse(received);
    } catch (error) {
      ended = error as Error;
      socket.destroy();
    }
    if (result !== undefined) {
      received = result.rest;
      const { resolve } = waiting;
      waiting = undefined;
      socket.setTimeout(0);
      resolve(result.answer);
    } else if (ended !== undefined) {
      const { reject } = waiting;
      waiting = undefined;
      reject(received === "" ? ended : new Error(`truncated answer: ${ended.message}`));
    }
  }

  function end(error: Error): void {
    ended ??= error;
    look();
  }

  socket.on("data", (data) => {
    received += data;
    look();
  });
  socket.on("error", (error: NodeJS.ErrnoException) => end(new Error(error.code ?? error.message)));
  socket.on("end", () => end(new Error("closed without an answer")));
  socket.on("close", () => end(new Error("closed without an answer")));
  socket.on("timeout", () => {
    end(new Error("no answer in time"));
    socket.destroy();
  });

  return {
    answer() {
      return new Promise((resolve, reject) => {
        waiting = { resolve, reject };
        socket.setTimeout(PATIENCE);
        look();
      });
    },
    write: (text) => void socket.write(text, "latin1"),
    get isAnswering() {
      return received !== "";
    },
    get isClosed() {
      return ended !== undefined || socket.destroyed;
    },
    close: () => socket.destroy(),
  };
}

/** The first answer in what was received, when it is complete. */
function parse(received: string): { answer: Answer; rest: string } | undefined {
  const end = received.indexOf("\r\n\r\n");
  if (end < 0) return undefined;
  const [first = "", ...lines] = received.slice(0, end).split("\r\n");
  const status = /^HTTP\/1\.1 (\d{3}) /.exec(`${first} `)?.[1];
  if (status === undefined) throw new Error(`not an answer: ${first.slice(0, 80)}`);
  const headers = new Map(lines.map((line) => {
    const colon = line.indexOf(":");
    return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()] as const;
  }));
  const at = end + 4;
  const answer = (body: string, next: number) => ({
    answer: { status: Number(status), headers, body },
    rest: received.slice(next),
  });
  const length = headers.get("content-length");
  if (length !== undefined) {
    const next = at + Number(length);
    return received.length < next ? undefined : answer(received.slice(at, next), next);
  }
  if (headers.get("transfer-encoding") !== "chunked") throw new Error("an answer without a length");
  let body = "";
  for (let position = at;;) {
    const line = received.indexOf("\r\n", position);
    if (line < 0) return undefined;
    const size = parseInt(received.slice(position, line), 16);
    if (!(size >= 0)) throw new Error("a broken chunk");
    const next = line + 2 + size + 2;
    if (received.length < next) return undefined;
    body += received.slice(line + 2, line + 2 + size);
    if (size === 0) return answer(body, next);
    position = next;
  }
}
