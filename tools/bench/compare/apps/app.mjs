/** The same small server for everything that runs on Node: it answers with its version, and echoes WebSockets. */
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { WebSocketServer } from "ws";

/** The version of this process: read once, as code is. */
export const version = readFileSync(process.env.VERSION_FILE, "utf8").trim();

export const port = Number(process.env.PORT);

export function answer(_request, response) {
  response.setHeader("content-type", "text/plain");
  response.end(version);
}

export function createApp() {
  const server = createServer({ keepAliveTimeout: 65_000 }, answer);
  const sockets = new WebSocketServer({ server });
  return { server, sockets };
}

/** Ends the process when its connections are finished: as the documentation of Node and Express recommends. */
export function closeAndExit(server, sockets) {
  for (const socket of sockets.clients) socket.close(1001);
  server.close(() => process.exit());
}

export const echo = (socket) => socket.on("message", (data) => socket.send(String(data)));
