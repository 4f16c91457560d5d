/** Bound servers of node:http and node:net with this library. */
import { createServer } from "node:net";
import { listen } from "@js0/reload-self";
import { liveWebSockets } from "@js0/reload-self/ws";
import { createApp, port } from "./app.mjs";
import { lines, tcpPort } from "./tcp.mjs";

const token = listen();
const { server, sockets } = createApp();
const echo = liveWebSockets(token, "echo", {
  accept: (socket) => socket.addEventListener("message", ({ data }) => socket.send(data)),
  release: () => true,
});
echo.attach(sockets);
const live = token.live("lines", { accept: lines, release: () => true });
await token.bind(createServer(live.accept), { port: tcpPort, host: "127.0.0.1" });
await token.bind(server, { port, host: "127.0.0.1" });
console.log(process.pid);
await token.drained();
process.exit();
