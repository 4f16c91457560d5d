/**
 * Socket.IO. Its sessions are in the memory of one process: at a reload their transports are closed, and its clients connect again by
 * themselves. They find their rooms again where the server lets them join when they connect.
 */
import { createServer } from "node:http";
import process from "node:process";
import { Server } from "socket.io";
import { listen } from "../../mod.ts";

const token = listen({ logger: console });
const server = createServer();
const io = new Server(server);
io.on("connection", (socket) => {
  socket.emit("hello", `pid ${process.pid}, generation ${token.generation}`);
  socket.on("ask", (answer) => answer(token.generation));
});
// Not `disconnectSockets`: a client that the server disconnects does not come back by itself.
token.signal.addEventListener("abort", () => io.engine.close());
await token.bind(server, { port: Number(process.env.PORT ?? 8000) });
