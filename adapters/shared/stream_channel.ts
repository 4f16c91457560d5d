import type { Channel } from "../../src/core/adapter.ts";
import { ReloadError } from "../../src/core/error.ts";
import { createLineReader, formatLine } from "./json_lines.ts";
import { createMailbox } from "../../src/reload/mailbox.ts";

/** A connection that keeps the order of what is written. */
export interface Stream {
  read(buffer: Uint8Array): Promise<number | null>;
  write(bytes: Uint8Array): Promise<number>;
  close(): void;
}

const BUFFER = 64 * 1024;

/**
 * A channel over a stream of bytes, with a line of JSON for each message. It carries no sockets.
 *
 * @param opening When it rejects, the channel is closed. Messages that are sent earlier wait for it.
 */
export function streamChannel(opening: Promise<Stream>): Channel {
  const inbox = createMailbox<[message: unknown]>();
  const closed = Promise.withResolvers<void>();
  const encoder = new TextEncoder();
  let sent: Promise<unknown> = opening;

  async function receive(stream: Stream): Promise<void> {
    const decoder = new TextDecoder();
    const buffer = new Uint8Array(BUFFER);
    // In a turn of its own: an error that the receiver throws is not an error of the stream.
    const read = createLineReader((message) => queueMicrotask(() => inbox.put(message)));
    try {
      for (let length; (length = await stream.read(buffer)) !== null;) {
        read(decoder.decode(buffer.subarray(0, length), { stream: true }));
      }
    } finally {
      stream.close();
    }
  }

  async function write(bytes: Uint8Array): Promise<void> {
    const stream = await opening;
    for (let at = 0; at < bytes.length;) at += await stream.write(bytes.subarray(at));
  }

  opening.then(receive).catch(() => {}).then(() => queueMicrotask(closed.resolve));
  return {
    sendsHandles: false,
    handlesTravelAlone: false,
    send(message, handle) {
      if (handle !== undefined) {
        const text = "no socket can be sent to a process that was started when there was none to send; reload once more";
        return Promise.reject(new ReloadError("start", text));
      }
      const bytes = encoder.encode(formatLine(message));
      sent = sent.then(() => write(bytes));
      sent.catch(() => {}); // The caller gets the error.
      return sent as Promise<void>;
    },
    onMessage: inbox.open,
    onClose: (callback) => void closed.promise.then(callback),
  };
}
