/** The commands: each takes its arguments and returns the reply. */
import type { Database } from "./database.ts";
import { array, bulk, error, integer, type Reply, simple } from "./resp.ts";

/** What a command knows of the client that sent it. */
export interface Client {
  /** The channels that it is subscribed to. */
  readonly channels: Set<string>;
  /** The commands since MULTI. */
  queue: string[][] | undefined;
  send(reply: Reply): void;
}

/** Executes the commands of all clients. */
export type Execute = (client: Client, command: string[]) => Reply;

type Command = [least: number, most: number, execute: (args: string[], client: Client) => Reply];

const NOT_AN_INTEGER = "ERR value is not an integer or out of range";

/** @param clients Those that are connected. */
export function createCommands(database: Database, clients: Iterable<Client>): Execute {
  const commands: Record<string, Command> = {
    PING: [0, 1, ([text]) => text === undefined ? simple("PONG") : bulk(text)],
    ECHO: [1, 1, ([text]) => bulk(text)],
    GET: [1, 1, ([key = ""]) => bulk(database.text(key))],
    SET: [2, 4, ([key = "", value = "", unit, time]) => {
      if (unit === undefined) database.set(key, value);
      else {
        const milliseconds = Number(time) * ({ EX: 1000, PX: 1 }[unit.toUpperCase()] ?? NaN);
        if (!Number.isInteger(milliseconds)) return error("ERR syntax error");
        if (milliseconds <= 0) return error("ERR invalid expire time in 'set' command");
        database.set(key, value, Date.now() + milliseconds);
      }
      return simple("OK");
    }],
    DEL: [1, Infinity, (keys) => integer(keys.filter((key) => database.delete(key)).length)],
    INCR: [1, 1, ([key = ""]) => {
      const value = Number(database.text(key) ?? 0) + 1;
      if (!Number.isSafeInteger(value)) return error(NOT_AN_INTEGER);
      database.update(key, String(value));
      return integer(value);
    }],
    EXPIRE: [2, 2, ([key = "", seconds]) => {
      const milliseconds = Number(seconds) * 1000;
      if (!Number.isInteger(milliseconds)) return error(NOT_AN_INTEGER);
      return integer(Number(database.expireAt(key, Date.now() + milliseconds)));
    }],
    TTL: [1, 1, ([key = ""]) => {
      const milliseconds = database.timeToLive(key);
      return integer(milliseconds < 0 ? milliseconds : Math.round(milliseconds / 1000));
    }],
    LPUSH: [
      2,
      Infinity,
      ([key = "", ...values]) => push(key, (list) => list.unshift(...values.reverse())),
    ],
    RPUSH: [2, Infinity, ([key = "", ...values]) => push(key, (list) => list.push(...values))],
    LRANGE: [3, 3, ([key = "", first, last]) => {
      const list = database.list(key) ?? [];
      const [from, to] = [first, last].map(Number) as [number, number];
      if (!Number.isInteger(from) || !Number.isInteger(to)) return error(NOT_AN_INTEGER);
      return array(list.slice(from, to === -1 ? undefined : to + 1).map(bulk));
    }],
    SUBSCRIBE: [1, Infinity, (channels, client) =>
      channels.map((channel) => {
        client.channels.add(channel);
        return array([bulk("subscribe"), bulk(channel), integer(client.channels.size)]);
      }).join("")],
    UNSUBSCRIBE: [
      0,
      Infinity,
      (channels, client) =>
        (channels.length > 0 ? channels : [...client.channels]).map((channel) => {
          client.channels.delete(channel);
          return array([bulk("unsubscribe"), bulk(channel), integer(client.channels.size)]);
        }).join(""),
    ],
    PUBLISH: [2, 2, ([channel = "", message = ""]) => {
      const subscribers = [...clients].filter(({ channels }) => channels.has(channel));
      for (const { send } of subscribers) {
        send(array([bulk("message"), bulk(channel), bulk(message)]));
      }
      return integer(subscribers.length);
    }],
  };

  function push(key: string, add: (list: string[]) => number): Reply {
    const list = database.list(key);
    if (list !== undefined) return integer(add(list));
    const made: string[] = [];
    add(made);
    database.set(key, made);
    return integer(made.length);
  }

  function run(client: Client, [name = "", ...args]: string[]): Reply {
    const [least, most, execute] = commands[name.toUpperCase()] ?? [];
    if (least === undefined || most === undefined || execute === undefined) {
      return error(`ERR unknown command '${name}'`);
    }
    if (args.length < least || args.length > most) {
      return error(`ERR wrong number of arguments for '${name}' command`);
    }
    try {
      return execute(args, client);
    } catch (cause) {
      return error((cause as Error).message);
    }
  }

  return (client, command) => {
    const name = command[0]?.toUpperCase();
    const { queue } = client;
    if (name === "MULTI") {
      if (queue !== undefined) return error("ERR MULTI calls can not be nested");
      client.queue = [];
      return simple("OK");
    }
    if (name === "EXEC" || name === "DISCARD") {
      client.queue = undefined;
      if (queue === undefined) return error(`ERR ${name} without MULTI`);
      return name === "EXEC" ? array(queue.map((command) => run(client, command))) : simple("OK");
    }
    if (queue === undefined) return run(client, command);
    queue.push(command);
    return simple("QUEUED");
  };
}
