import type { Server, Socket } from "node:net";
import type { Channel } from "../../src/core/adapter.ts";
import { createMailbox } from "../../src/reload/mailbox.ts";
import { createLineReader, formatLine } from "./json_lines.ts";
import { startListening } from "./node_sockets.ts";

/** A channel over a connected socket, a line of JSON for each message. It never keeps this process alive. */
export function socketChannel(socket: Socket): Channel {
  const inbox = createMailbox<[message: unknown]>();
  const closed = Promise.withResolvers<void>();
  socket.unref();
  socket.setEncoding("utf8");
  socket.on("error", () => {}); // "close" follows.
  socket.on("close", () => closed.resolve());
  socket.on("data", createLineReader(inbox.put));
  return {
    sendsHandles: false,
    handlesTravelAlone: false,
    send: (message) =>
      new Promise((resolve, reject) => {
        socket.write(formatLine(message), (error) => error ? reject(error) : resolve());
      }),
    onMessage: inbox.open,
    onClose: (callback) => void closed.promise.then(callback),
  };
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
export async function acceptSockets(path: string, accept: (channel: Channel) => void): Promise<Server> {
  const { createServer } = await import("node:net");
  const server = createServer((socket) => accept(socketChannel(socket)));
  await startListening(server, { path });
  return server;
}
