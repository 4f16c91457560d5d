import type { Server, Socket } from "node:net";
import type { Channel } from "../../src/core/adapter.ts";
import { createLineChannel } from "./line_channel.ts";
import { startListening } from "./node_sockets.ts";

/** A channel over a connected socket. It never keeps this process alive. */
function socketChannel(socket: Socket): Channel {
  const { channel, read, close } = createLineChannel((line) =>
    new Promise((resolve, reject) => {
      socket.write(line, (error) => error ? reject(error) : resolve());
    })
  );
  socket.unref();
  socket.setEncoding("utf8");
  socket.on("error", () => {}); // "close" follows.
  socket.on("close", close);
  socket.on("data", read);
  return channel;
}

/** Connects to a unix socket. */
export async function connectSocket(path: string): Promise<Channel> {
  const { connect } = await import("node:net");
  return await new Promise((resolve, reject) => {
    const socket = connect(path, () => {
      socket.off("error", reject);
      resolve(socketChannel(socket));
    });
    socket.once("error", reject);
  });
}

/** Accepts connections on a unix socket. The returned server must be closed. */
export async function acceptSockets(
  path: string,
  accept: (channel: Channel) => void,
): Promise<Server> {
  const { createServer } = await import("node:net");
  const server = createServer((socket) => accept(socketChannel(socket)));
  await startListening(server, { path });
  return server;
}
