/** The channel between two processes as node:child_process makes it. */
import type processModule from "node:process";
import type { Channel, Predecessor } from "../../src/core/adapter.ts";
import { createMailbox } from "../../src/reload/mailbox.ts";
import { hideChannel } from "./hidden_channel.ts";

/** The `process` object of Node's. */
export type NodeProcess = typeof processModule;

/** The members of `process` and `ChildProcess` that make a channel. */
export interface Endpoint {
  readonly connected: boolean;
  send(
    message: unknown,
    handle: unknown,
    options: { keepOpen: boolean },
    sent: (error: Error | null) => void,
  ): boolean;
  on(event: "message", listener: (message: unknown, handle: unknown) => void): unknown;
  once(event: "disconnect", listener: () => void): unknown;
}

/** What a channel can carry. */
export type Carries = Pick<Channel, "sendsHandles" | "handlesTravelAlone">;

/** The channel to the process at the other end. */
export function createChannel(endpoint: Endpoint, carries: Carries): Channel {
  const inbox = createMailbox<[message: unknown, handle?: unknown]>();
  const closed = Promise.withResolvers<void>();
  endpoint.on("message", inbox.put);
  /**
   * Bun 1.4 never calls back for a message that it could not send before the channel was closed.
   */
  const unsent = new Set<(error: Error) => void>();
  endpoint.once("disconnect", () => {
    closed.resolve();
    for (const reject of unsent) reject(new Error("the other process has closed the channel"));
  });
  if (!endpoint.connected) closed.resolve();
  return {
    ...carries,
    send: (message, handle) =>
      new Promise((resolve, reject) => {
        if (!endpoint.connected) throw new Error("the other process has closed the channel");
        unsent.add(reject);
        // Deno closes a server that was sent, unless told to keep it open; Node and Bun keep it
        // anyway.
        endpoint.send(message, handle, { keepOpen: true }, (error) => {
          unsent.delete(reject);
          if (error) reject(error);
          else resolve();
        });
      }),
    onMessage: inbox.open,
    onClose(callback) {
      closed.promise.then(callback);
    },
  };
}

/**
 * The predecessor, at the other end of the channel that this process has inherited, if there is
 * one.
 */
export function inheritedChannel(
  process: NodeProcess,
  generation: number,
  carries: Carries,
): Predecessor | undefined {
  if (process.send === undefined) return undefined;
  const { channel } = process;
  const predecessor = { generation, channel: createChannel(hideChannel(process), carries) };
  channel?.unref(); // Listening to messages made it keep this process alive.
  return predecessor;
}
