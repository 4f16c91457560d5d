/** Without any help: SIGTERM closes the server, as the documentation of Node and Express recommends. */
import { createApp, echo, port } from "./app.mjs";

const { server, sockets } = createApp();
sockets.on("connection", echo);
const end = () => {
  for (const socket of sockets.clients) socket.close(1001);
  server.close(() => process.exit());
};
process.on("SIGTERM", end);
process.on("SIGINT", end); // PM2 sends this one.
server.listen({ port, host: "127.0.0.1", reusePort: process.env.REUSE_PORT === "1" }, () => {
  console.log("listening");
  process.send?.("ready");
});
