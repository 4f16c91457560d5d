/** Clients that ask a program of any framework, and note which process has answered. */
import { setTimeout as delay } from "node:timers/promises";
import { type Connection, openConnection } from "../load/http1.ts";

/** What came of it. */
export interface Outcome {
  readonly answers: Map<number, number>;
  readonly errors: Map<string, number>;
}

/** Clients under way. */
export interface Clients extends Outcome {
  stop(): Promise<void>;
}

/** How often a kept connection is asked, in milliseconds. */
const PAUSE_MS = 5;

/** Starts clients with a connection for each request, and as many that keep theirs. */
export function startClients(port: number, count: number, path = "/", host = "127.0.0.1"): Clients {
  const answers = new Map<number, number>();
  const errors = new Map<string, number>();
  let isOver = false;

  const add = <K>(map: Map<K, number>, key: K) => void map.set(key, (map.get(key) ?? 0) + 1);
  async function ask(connection: Connection, keeps: boolean): Promise<boolean> {
    connection.write(
      `GET ${path} HTTP/1.1\r\nHost: localhost\r\n${keeps ? "" : "Connection: close\r\n"}\r\n`,
    );
    const { status, body, headers } = await connection.answer();
    const pid = Number(/pid (\d+)/.exec(body)?.[1]);
    if (status === 200 && pid > 0) add(answers, pid);
    else add(errors, `status ${status}: ${body.slice(0, 200)}`);
    return headers.get("connection")?.toLowerCase() !== "close";
  }

  async function client(keeps: boolean): Promise<void> {
    let connection: Connection | undefined;
    while (!isOver) {
      try {
        if (connection === undefined || connection.isClosed) {
          connection = await openConnection({ port, host });
        }
        if (await ask(connection, keeps) && keeps) await delay(PAUSE_MS);
        else {
          connection.close();
          connection = undefined;
        }
      } catch (error) {
        add(errors, `${keeps ? "kept" : "new"}: ${(error as Error).message}`);
        connection?.close();
        connection = undefined;
        await delay(PAUSE_MS);
      }
    }
    connection?.close();
  }

  const running = Promise.all(Array.from({ length: 2 * count }, (_, i) => client(i % 2 === 0)));
  return {
    answers,
    errors,
    async stop() {
      isOver = true;
      await running;
    },
  };
}
