/**
 * The same small server for everything that runs on Node: it answers with its version, and echoes
 * WebSockets.
 */
import { createServer } from "node:http";
import { WebSocketServer } from "ws";
import { version } from "./tcp.mjs";

export const port = Number(process.env.PORT);

export function answer(request, response) {
  request.resume(); // What a POST brings is read, as by a program that does something with it.
  request.on("end", () => {
    response.setHeader("content-type", "text/plain");
    response.end(version);
  });
}

export function createApp() {
  const server = createServer({ keepAliveTimeout: 65_000 }, answer);
  const sockets = new WebSocketServer({ server });
  return { server, sockets };
}

/**
 * Ends the process when its connections are finished: as the documentation of Node and Express
 * recommends.
 */
export function closeAndExit(server, sockets, tcp) {
  for (const socket of sockets.clients) socket.close(1001);
  tcp.close();
  server.close(() => process.exit());
}

export const echo = (socket) => socket.on("message", (data) => socket.send(String(data)));
