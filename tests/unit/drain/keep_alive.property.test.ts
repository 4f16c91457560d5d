/**
 * A connection counts as idle between two requests, and never in the middle of one, however they
 * are cut into pieces.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer as createHttp, type IncomingMessage, type ServerResponse } from "node:http";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { test } from "node:test";
import { setImmediate } from "node:timers/promises";
import fc from "fast-check";
import { type HttpSocket, isIdle } from "../../../src/drain/keep_alive.ts";

/** A request: with which body, and whether the application reads it. */
interface Plan {
  readonly body: "none" | "length" | "chunks";
  readonly sizes: readonly number[];
  readonly isRead: boolean;
  readonly trailer: boolean;
}

function textOf({ body, sizes, isRead, trailer }: Plan): string {
  const head = `POST ${isRead ? "/read" : "/unread"} HTTP/1.1\r\nHost: test\r\n`;
  const parts = sizes.map((size) => "x".repeat(size));
  if (body === "none") return `${head}\r\n`;
  if (body === "length") {
    return `${head}Content-Length: ${parts.join("").length}\r\n\r\n${parts.join("")}`;
  }
  const chunks = parts.map((part) => `${part.length.toString(16)}\r\n${part}\r\n`).join("");
  return `${head}Transfer-Encoding: chunked\r\n\r\n${chunks}0\r\n${
    trailer ? "X-Sum: 1\r\n" : ""
  }\r\n`;
}

function answer(request: IncomingMessage, response: ServerResponse): void {
  if (request.url === "/unread") return void response.end("no");
  request.resume().on("end", () => response.end("yes"));
}

/** Polls: what is read in another turn of the event loop gives no notice. */
async function until(condition: () => boolean): Promise<void> {
  for (const end = performance.now() + 20_000; !condition(); await setImmediate()) {
    if (performance.now() > end) throw new Error(`waited in vain for ${condition}`);
  }
}

test("a connection is idle between two requests, and only there", async () => {
  const http = createHttp(answer);
  // Deno 2.9 ends the connections of a server that does not listen; adapters/deno/sockets.ts.
  Object.defineProperty(http, "listening", { value: true });
  const server = createServer(
    { allowHalfOpen: true },
    (socket) => void http.emit("connection", socket),
  );
  const sockets: Socket[] = [];
  server.on("connection", (socket) => sockets.push(socket));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  let between = 0;
  let within = 0;

  const plan = fc.record({
    body: fc.constantFrom("none", "length", "chunks"),
    sizes: fc.array(fc.integer({ min: 1, max: 300 }), { minLength: 1, maxLength: 3 }),
    isRead: fc.boolean(),
    trailer: fc.boolean(),
  });
  const requests = fc.array(
    fc.tuple(plan, fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 5 })),
    {
      minLength: 1,
      maxLength: 4,
    },
  );

  await fc.assert(
    fc.asyncProperty(requests, async (requests) => {
      const client = connect(port, "127.0.0.1");
      client.setNoDelay(true);
      try {
        let received = "";
        client.setEncoding("latin1").on("data", (text) => received += text);
        const count = sockets.length;
        await until(() => sockets.length > count);
        const socket = sockets[count] as Socket & HttpSocket;
        assert.ok(isIdle(socket), "before the first request");
        let sent = 0;
        for (const [i, [plan, cuts]] of requests.entries()) {
          const text = textOf(plan);
          const ends = new Set(
            cuts.map((cut) => 1 + Math.floor(cut * (text.length - 1))).sort((a, b) => a - b),
          );
          let begin = 0;
          for (const end of [...ends, text.length]) {
            client.write(text.slice(begin, end), "latin1");
            sent += end - begin;
            begin = end;
            await until(() => socket.bytesRead === sent);
            if (end === text.length) break;
            // More than once: to be asked must change nothing.
            for (let i = 0; i < 3; i++, await setImmediate()) {
              assert.equal(isIdle(socket), false, text.slice(0, end));
            }
            within++;
          }
          await until(() => received.split("HTTP/1.1 200").length === i + 2);
          await until(() => isIdle(socket));
          between++;
        }
      } finally {
        client.destroy();
      }
    }),
    { numRuns: 300 },
  );
  server.close();
  assert.ok(
    between > 300 && within > 300,
    `${between} times between two, ${within} times in the middle of one`,
  );
});
