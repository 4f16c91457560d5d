/** A bound server of node:http with this library. */
import { listen } from "@js0/reload-self";
import { liveWebSockets } from "@js0/reload-self/ws";
import { createApp, echo, port } from "./app.mjs";

const token = listen();
const { server, sockets } = createApp();
liveWebSockets(token, "echo", sockets, { accept: echo, release: () => true });
await token.bind(server, { port, host: "127.0.0.1" });
console.log(process.pid);
await token.drained();
process.exit();
