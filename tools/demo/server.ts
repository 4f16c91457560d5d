/**
 * The server of the demo, on the server that each runtime has: HTTP, and WebSockets that count what
 * they are sent. The first argument is the file that a deploy replaces.
 */
import process from "node:process";
import { listen } from "../../mod.ts";
import { type LiveWebSocket, liveWebSockets } from "../../ws.ts";

const tell = (report: object) => console.log(JSON.stringify({ by: process.pid, ...report }));
const token = listen({
  onEvent: tell,
  logger: { info() {}, warn: console.error, error: console.error },
});
const { version } = await import(process.argv[2] as string) as { version: string };
const body = JSON.stringify({ pid: process.pid, version });

const counts = new Map<LiveWebSocket, number>();
const counters = liveWebSockets<number, LiveWebSocket>(token, "counters", {
  accept(socket, count = 0) {
    counts.set(socket, count);
    socket.addEventListener("message", () => {
      const next = (counts.get(socket) ?? 0) + 1;
      counts.set(socket, next);
      socket.send(String(next));
    });
    socket.addEventListener("close", () => counts.delete(socket));
  },
  release(socket) {
    const count = counts.get(socket);
    counts.delete(socket);
    return count;
  },
});

// Each runtime knows only its own.
// deno-lint-ignore no-explicit-any
const { Bun, Deno } = globalThis as any;
const answer = (request: Request, more?: unknown): unknown =>
  request.headers.has("upgrade") ? counters.upgrade(request, more as never) : new Response(body);
let port: number;
if (Bun !== undefined) {
  ({ port } = token.adopt(Bun.serve)({ port: 0, fetch: answer, websocket: counters.websocket }) as {
    port: number;
  });
} else if (Deno !== undefined) {
  ({ port } =
    (token.adopt(Deno.serve)({ port: 0, onListen() {} }, answer) as { addr: { port: number } })
      .addr);
} else {
  const { createServer } = await import("node:http");
  const { WebSocketServer } = await import("ws");
  const server = createServer((_request, response) => response.end(body));
  counters.attach(new WebSocketServer({ server }));
  await token.bind(server, { port: 0 });
  ({ port } = server.address() as { port: number });
}
tell({ type: "listening", port });
