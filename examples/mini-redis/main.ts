/**
 * A small Redis whose data and connections survive a reload: no client is cut, no write that was
 * acknowledged is lost, none is applied twice. Runs unchanged on Deno, Bun and Node:
 *
 *     node examples/mini-redis/main.ts
 *     redis-cli -p 6380 INCR visits
 *     kill -HUP <its pid>
 *     redis-cli -p 6380 INCR visits
 */
import { Buffer } from "node:buffer";
import { createServer, type Socket } from "node:net";
import process from "node:process";
import { listen } from "../../mod.ts";
import { type Client, createCommands } from "./commands.ts";
import { Database } from "./database.ts";
import { error, parseCommand } from "./resp.ts";

/** What the next generation must know of a connection. */
interface Session {
  /** The part of a command that has come so far. */
  rest: string;
  channels: string[];
  queue?: string[][];
}

interface Connection extends Client {
  rest: string;
}

const database = new Database();
const connections = new Map<Socket, Connection>();
const execute = createCommands(database, {
  [Symbol.iterator]: () => connections.values(),
});

// A short probation: while it lasts a new process that dies is replaced by the old one, but what
// was written to the new one is lost with it.
const token = listen({ saveState: () => database.toJSON(), probation: 100, idleGrace: 100 });
token.inheritedState.then((data) => database.load(data));

// A reload calls `release` for every connection, then `saveState`, then, in the new process,
// `accept` for every connection. In between nothing is read: writes stop, the data is handed over,
// the connections move, writes go on.
const live = token.live<Session, Socket>("redis", {
  accept(socket, { rest, channels, queue } = { rest: "", channels: [] }) {
    const connection: Connection = {
      rest,
      channels: new Set(channels),
      queue,
      send: (reply) => void socket.write(Buffer.from(reply, "latin1")),
    };
    connections.set(socket, connection);
    socket.setNoDelay(true);
    socket.on("data", (chunk) => receive(socket, connection, chunk.toString("latin1")));
    socket.on("error", () => {}); // The client is gone; "close" follows.
    socket.on("close", () => connections.delete(socket));
  },
  release(socket) {
    const connection = connections.get(socket);
    connections.delete(socket);
    if (connection === undefined) return undefined;
    const { rest, channels, queue } = connection;
    return { rest, channels: [...channels], queue };
  },
});

/** Executes all commands that are complete. */
function receive(socket: Socket, connection: Connection, chunk: string): void {
  const text = connection.rest + chunk;
  const replies: string[] = [];
  let at = 0;
  try {
    for (let found; (found = parseCommand(text, at)) !== undefined; at = found.next) {
      if (found.command.length > 0) replies.push(execute(connection, found.command));
    }
  } catch (cause) {
    replies.push(error(`ERR Protocol error: ${(cause as Error).message}`));
    socket.end(Buffer.from(replies.join(""), "latin1"));
    return;
  }
  connection.rest = text.slice(at);
  if (replies.length > 0) connection.send(replies.join(""));
}

const server = createServer(live.accept);
await token.bind(server, { port: Number(process.env.PORT ?? 6380) });
const { port } = server.address() as { port: number };
console.log(`pid ${process.pid}, generation ${token.generation}: listening on port ${port}`);

// The three steps of a graceful shutdown. First: when? A signal, or a reload whose new process is
// in charge.
const { kind } = await token.cancelled();
// Second: tell everyone. The token has told the server, which accepts no more. After a reload the
// connections are in the new process.
if (kind === "shutdown") { for (const socket of connections.keys()) socket.end(); }
// Third: wait until all have finished.
await token.drained();
console.log(`pid ${process.pid}, generation ${token.generation}: done`);
