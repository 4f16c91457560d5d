import type { Server, Socket } from "node:net";
import type { Channel } from "../../core/adapter.ts";
import { createMailbox } from "../../reload/mailbox.ts";

/** A channel over a connected socket, a line of JSON for each message. It never keeps this process alive. */
export function socketChannel(socket: Socket): Channel {
  const inbox = createMailbox<[message: unknown]>();
  const closed = Promise.withResolvers<void>();
  let line = "";
  socket.unref();
  socket.setEncoding("utf8");
  socket.on("error", () => {}); // "close" follows.
  socket.on("close", () => closed.resolve());
  socket.on("data", (data: string) => {
    const [first = "", ...others] = data.split("\n");
    line += first;
    for (const next of others) {
      inbox.put(parse(line));
      line = next;
    }
  });
  return {
    sendsHandles: false,
    send: (message) =>
      new Promise((resolve, reject) => {
        socket.write(`${JSON.stringify(message)}\n`, (error) => error ? reject(error) : resolve());
      }),
    onMessage: inbox.open,
    onClose: (callback) => void closed.promise.then(callback),
  };
}

function parse(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined; // No receiver understands it.
  }
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
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(path, resolve);
  });
  return server;
}
