/** The channels between two processes on Deno. */
import type { Channel } from "../../src/core/adapter.ts";
import type { Carries } from "../shared/node_channel.ts";
import { pack } from "../../src/protocol/reload.ts";
import { createLineChannel } from "../shared/line_channel.ts";
import type { DenoNamespace } from "./namespace.ts";

/** Milliseconds between two checks whether the other process is still there. */
const CHECK_MS = 500;

/**
 * What Node's channel can carry on Deno 2.9. It loses a socket that is read in one piece with
 * another message, and then sends nothing more, because it waits for the acknowledgement
 * (ext/node/polyfills/internal/child_process.ts, readLoop).
 */
export function denoCarries(isWindows: boolean): Carries {
  // ERR_INVALID_HANDLE_TYPE on Windows
  return { sendsHandles: !isWindows, handlesTravelAlone: true };
}

/** A connection that keeps the order of what is written. */
export interface Stream {
  read(buffer: Uint8Array): Promise<number | null>;
  write(bytes: Uint8Array): Promise<number>;
  close(): void;
}

const BUFFER_BYTES = 64 * 1024;

/**
 * A channel over a stream of bytes.
 *
 * @param opening When it rejects, the channel is closed. Messages that are sent earlier wait for
 * it.
 */
export function streamChannel(opening: Promise<Stream>): Channel {
  const encoder = new TextEncoder();
  let sent: Promise<unknown> = opening;

  async function write(bytes: Uint8Array): Promise<void> {
    const stream = await opening;
    for (let at = 0; at < bytes.length;) at += await stream.write(bytes.subarray(at));
  }
  const { channel, read, close } = createLineChannel((line) => {
    const written = sent.then(() => write(encoder.encode(line)));
    sent = written;
    written.catch(() => {}); // The caller gets the error.
    return written;
  });

  async function receive(stream: Stream): Promise<void> {
    const decoder = new TextDecoder();
    const buffer = new Uint8Array(BUFFER_BYTES);
    try {
      for (let length; (length = await stream.read(buffer)) !== null;) {
        read(decoder.decode(buffer.subarray(0, length), { stream: true }));
      }
    } finally {
      stream.close();
    }
  }
  opening.then(receive).catch(() => {}).then(close);
  return channel;
}

/**
 * The channel to the process that accepts a connection at a path. It never keeps this process
 * alive.
 */
export function connectChannel(deno: DenoNamespace, path: string): Channel {
  return streamChannel(
    deno.connect({ transport: "unix", path }).then((connection) => {
      connection.unref();
      return connection;
    }),
  );
}

/**
 * A channel that notices when the other process is gone. When that process dies with messages
 * unread, the kernel reports a reset connection instead of its end (unix(7)); Deno 2.9 then stops
 * reading without closing the channel.
 */
export function watchChannel(deno: DenoNamespace, channel: Channel): Channel {
  const closed = Promise.withResolvers<void>();
  const check = () => channel.send(pack({ type: "alive" })).catch(() => closed.resolve());
  const timer = setInterval(check, CHECK_MS);
  deno.unrefTimer(timer);
  channel.onClose(closed.resolve);
  closed.promise.then(() => clearInterval(timer));
  return { ...channel, onClose: (callback) => void closed.promise.then(callback) };
}
