/** A channel over a connection, with a line of JSON for each message. It carries no sockets. */
import type { Channel } from "../../src/core/adapter.ts";
import { attempt } from "../../src/core/attempt.ts";
import { ReloadError } from "../../src/core/error.ts";
import { createMailbox } from "../../src/reload/mailbox.ts";

/** The channel, and what its connection tells it. */
export interface LineChannel {
  readonly channel: Channel;
  /** A piece of text has come, which may begin and end anywhere. */
  read(piece: string): void;
  /** The connection is closed. */
  close(): void;
}

/**
 * Makes a channel. A line that is no JSON is received as `undefined`, which no receiver
 * understands.
 *
 * @param write Sends text, in the order of the calls.
 */
export function createLineChannel(write: (line: string) => Promise<void>): LineChannel {
  const inbox = createMailbox<[message: unknown]>();
  const closed = Promise.withResolvers<void>();
  let line = "";
  // In a turn of its own: an error that the receiver throws is not an error of the connection.
  const receive = (line: string) =>
    queueMicrotask(() => inbox.put(attempt(() => JSON.parse(line))));
  return {
    channel: {
      sendsHandles: false,
      handlesTravelAlone: false,
      async send(message, handle) {
        if (handle !== undefined) {
          const text =
            "no socket can be sent to a process that was started when there was none to send; reload once more";
          throw new ReloadError("start", text);
        }
        await write(`${JSON.stringify(message)}\n`);
      },
      onMessage: inbox.open,
      onClose: (callback) => void closed.promise.then(callback),
    },
    read(piece) {
      const [first = "", ...others] = piece.split("\n");
      line += first;
      for (const next of others) {
        receive(line);
        line = next;
      }
    },
    close: () => queueMicrotask(closed.resolve),
  };
}
