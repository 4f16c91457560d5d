/**
 * A chat whose members stay through every reload: one file for Bun.serve, Deno.serve, and node:http
 * with ws. Start it with `bun examples/chat.ts`, `deno run -A examples/chat.ts` or `node
 * examples/chat.ts`, connect to ws://localhost:8000/NAME, and send it SIGHUP.
 */
import process from "node:process";
import { listen } from "../mod.ts";
import { type LiveWebSocket, liveWebSockets } from "../ws.ts";

const token = listen();
const members = new Map<LiveWebSocket, string>();

const chat = liveWebSockets<string, LiveWebSocket, { url: string }>(token, "chat", {
  accept(socket, moved, request) {
    const name = moved ??
      decodeURIComponent(new URL(request?.url ?? "/", "http://localhost").pathname.slice(1));
    members.set(socket, name);
    socket.addEventListener("message", (event) => {
      for (const member of members.keys()) member.send(`${name}: ${(event as MessageEvent).data}`);
    });
    socket.addEventListener("close", () => members.delete(socket));
  },
  release(socket) {
    const name = members.get(socket);
    members.delete(socket);
    return name;
  },
});

const port = Number(process.env.PORT ?? 8000);
// Each runtime knows only its own.
// deno-lint-ignore no-explicit-any
const { Bun, Deno } = globalThis as any;
if (Bun !== undefined) {
  token.adopt(Bun.serve)({ port, fetch: chat.upgrade, websocket: chat.websocket });
} else if (Deno !== undefined) token.adopt(Deno.serve)({ port }, chat.upgrade);
else {
  const { createServer } = await import("node:http");
  const { WebSocketServer } = await import("ws");
  const server = createServer();
  chat.attach(new WebSocketServer({ server }));
  await token.bind(server, { port });
}
console.log(`chat at ws://localhost:${port}/NAME (pid ${process.pid})`);
