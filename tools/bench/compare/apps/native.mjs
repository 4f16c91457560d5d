/** Deno.serve and Bun.serve with this library, and raw TCP beside them. */
import { createServer } from "node:net";
import process from "node:process";
import { listen } from "@js0/reload-self";
import { liveWebSockets } from "@js0/reload-self/ws";
import { lines, tcpPort, version } from "./tcp.mjs";

const { Deno, Bun } = globalThis;
const token = listen();
const echo = liveWebSockets(token, "echo", {
  accept: (socket) => socket.addEventListener("message", ({ data }) => socket.send(data)),
  release: () => true,
});
const live = token.live("lines", { accept: lines, release: () => true });
await token.bind(createServer(live.accept), { port: tcpPort, host: "127.0.0.1" });
const where = { port: Number(process.env.PORT), hostname: "127.0.0.1" };
async function fetch(request, more) {
  if (request.headers.get("upgrade") !== null) return echo.upgrade(request, more);
  // As a program that does something with it.
  if (request.method === "POST") await request.arrayBuffer();
  return new Response(version);
}
if (Deno !== undefined) token.adopt(Deno.serve)({ ...where, onListen() {} }, fetch);
else token.adopt(Bun.serve)({ ...where, fetch, websocket: echo.websocket });
console.log(process.pid);
