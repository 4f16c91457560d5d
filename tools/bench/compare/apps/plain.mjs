/** Without any help: SIGTERM closes the server. */
import { closeAndExit, createApp, echo, port } from "./app.mjs";

const { server, sockets } = createApp();
sockets.on("connection", echo);
const end = () => closeAndExit(server, sockets);
process.on("SIGTERM", end);
process.on("SIGINT", end); // PM2 sends this one.
server.listen({ port, host: "127.0.0.1", reusePort: process.env.REUSE_PORT === "1" }, () => {
  console.log("listening");
  process.send?.("ready");
});
