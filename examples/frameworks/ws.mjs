/**
 * A chat on `ws`. On Node and Deno, its WebSockets move to the new process, with the names of their users. On Bun, which has a `ws` of its
 * own, they are closed with 1001 at a reload; the client of a chat connects again then.
 */
import { createServer } from "node:http";
import process from "node:process";
import { WebSocketServer } from "ws";
import { listen } from "../../mod.ts";
import { liveWebSockets } from "../../ws.ts";

const token = listen({ logger: console });
const server = createServer();
const names = new Map();

liveWebSockets(token, "chat", new WebSocketServer({ server }), {
  accept(socket, session, request) { // A moved WebSocket has a session, a new one has a request.
    const name = session ?? request.url.slice(1);
    names.set(socket, name);
    socket.on("message", (data) => {
      for (const other of names.keys()) other.send(`${name}: ${data}`);
    });
    socket.on("close", () => names.delete(socket));
  },
  release(socket) {
    const name = names.get(socket);
    names.delete(socket);
    return name;
  },
});
await token.bind(server, { port: Number(process.env.PORT ?? 8000) });
console.log(`pid ${process.pid}, generation ${token.generation}`);
