/** Without any help: SIGTERM closes the server. */
import { closeAndExit, createApp, echo, port } from "./app.mjs";
import { createTcp, tcpPort } from "./tcp.mjs";

const { server, sockets } = createApp();
const tcp = createTcp();
sockets.on("connection", echo);
const end = () => closeAndExit(server, sockets, tcp);
process.on("SIGTERM", end);
process.on("SIGINT", end); // PM2 sends this one.
const where = { host: "127.0.0.1", reusePort: process.env.REUSE_PORT === "1" };
tcp.server.listen({ ...where, port: tcpPort }, () =>
  server.listen({ ...where, port }, () => {
    console.log("listening");
    process.send?.("ready");
  }));
