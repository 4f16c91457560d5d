/** Raw TCP: each line is answered with the version of the process. */
import { readFileSync } from "node:fs";
import { createServer } from "node:net";

/** The version of this process: read once, as code is. */
export const version = readFileSync(process.env.VERSION_FILE, "utf8").trim();

export const tcpPort = Number(process.env.TCP_PORT);

export function lines(socket) {
  socket.on("error", () => {});
  socket.on("data", () => socket.write(`${version}\n`));
}

/** The server of a program without help: it closes its connections when it is to end. */
export function createTcp() {
  const sockets = new Set();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    lines(socket);
  });
  return {
    server,
    close() {
      server.close();
      for (const socket of sockets) socket.end();
    },
  };
}
