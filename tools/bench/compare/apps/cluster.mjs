/**
 * The reload of node:cluster that many projects write by hand: a new worker, and when it listens,
 * the old one disconnects.
 */
import cluster from "node:cluster";

/** Calls back when a worker has both servers. */
function whenListening(worker, then) {
  let count = 0;
  worker.on("listening", () => ++count === 2 && then());
}

if (cluster.isPrimary) {
  let worker = cluster.fork();
  whenListening(worker, () => console.log("listening"));
  process.on("SIGHUP", () => {
    const old = worker;
    worker = cluster.fork();
    whenListening(worker, () => {
      old.send("end");
      old.disconnect();
    });
  });
} else {
  const { closeAndExit, createApp, echo, port } = await import("./app.mjs");
  const { createTcp, tcpPort } = await import("./tcp.mjs");
  const { server, sockets } = createApp();
  const tcp = createTcp();
  sockets.on("connection", echo);
  server.listen(port, "127.0.0.1");
  tcp.server.listen(tcpPort, "127.0.0.1");
  process.on("message", () => closeAndExit(server, sockets, tcp));
}
