/** The reload of node:cluster that many projects write by hand: a new worker, and when it listens, the old one disconnects. */
import cluster from "node:cluster";

if (cluster.isPrimary) {
  let worker = cluster.fork();
  worker.once("listening", () => console.log("listening"));
  process.on("SIGHUP", () => {
    const old = worker;
    worker = cluster.fork();
    worker.once("listening", () => {
      old.send("end");
      old.disconnect();
    });
  });
} else {
  const { closeAndExit, createApp, echo, port } = await import("./app.mjs");
  const { server, sockets } = createApp();
  sockets.on("connection", echo);
  server.listen(port, "127.0.0.1");
  process.on("message", () => closeAndExit(server, sockets));
}
