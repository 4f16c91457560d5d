/** What the handovers of sockets have in common. */
import type { Clock } from "../core/adapter.ts";
import type { ReloadErrorCode } from "../core/error.ts";
import { pause } from "../core/pause.ts";
import type { HandoverData } from "../protocol/reload.ts";
import type { Link } from "../reload/handover.ts";

/**
 * How many turns of the event loop a server that has no successor goes on accepting, at most. A
 * runtime accepts one connection or more in each, so this empties the usual queue of 511. A time
 * would not do: a process on a busy machine has few turns in it.
 */
export const MAX_ACCEPT_TURNS = 600;

/** The line of a handover to its namesake: messages of type `In` come, those of type `Out` go. */
export interface Line<In, Out> {
  /** Sends a message, and a socket with it. */
  send(message: Out, handle?: unknown): Promise<void>;
  /** Sends what may get lost: that the other process is gone is noticed elsewhere. */
  post(message: Out, handle?: unknown): void;
  /** Sets the receiver, as {@linkcode Link.onData} does. What is not understood is ignored. */
  onMessage(receive: (message: In, handle: unknown) => void | Promise<void>): void;
}

/** The line over a link. */
export function openLine<In, Out extends HandoverData>(
  link: Link,
  parse: (data: unknown) => In | undefined = () => undefined,
): Line<In, Out> {
  return {
    send: (message, handle) => link.send(message, handle),
    post: (message, handle) => void link.send(message, handle).catch(() => {}),
    onMessage: (receive) =>
      link.onData((data, handle) => {
        const message = parse(data);
        return message === undefined ? undefined : receive(message, handle);
      }),
  };
}

/** Sends the descriptor of a socket, and returns its number for a message. */
export function sendDescriptor({ descriptors }: Link, key: string, fd: number): number {
  const number = descriptors?.send([fd]);
  if (number !== undefined) return number;
  throw new Error(`the socket of ${key} cannot be sent: are there descriptors left?`);
}

/** The descriptor that came under the number in a message. */
export function receiveDescriptor(
  { descriptors }: Link,
  number: number | undefined,
): number | undefined {
  return number === undefined ? undefined : descriptors?.receive(number)?.[0];
}

/**
 * Names a server for a person: its key, with the port that the kernel or the runtime has chosen.
 *
 * @param port The port on which it listens, as far as it has one.
 */
export function nameOf(key: string, port: unknown): string {
  return typeof port === "number" ? key.replace(/:(0|default)( #\d+)?$/, `:${port}`) : key;
}

/** Explains a timeout: the addresses on which the new process did not begin to listen. */
export function explainMissing(
  code: ReloadErrorCode,
  addresses: readonly string[],
): string | undefined {
  if (code !== "timeout" || addresses.length === 0) return undefined;
  return `it did not listen on ${addresses.join(", ")}, as this process does; ` +
    "if that is intended, let it call token.ready()";
}

/** Warns of one thing only: what fails at one reload fails at all. */
export function createWarnOnce(warn: (message: string) => void): (message: string) => void {
  let isWarned = false;
  return (message) => {
    if (!isWarned) warn(message);
    isWarned = true;
  };
}

/** How long the kernel may take to close the sockets of a process that was killed. */
const CLOSE_TIMEOUT_MS = 5_000;
const RETRY_MS = 10;

/** Opens a socket at the address of a process that is gone, as soon as that address is free. */
export async function whenFree<T>(clock: Clock, open: () => T | Promise<T>): Promise<T> {
  for (const begun = clock.now();;) {
    try {
      return await open();
    } catch (error) {
      const isInUse = (error as { code?: unknown }).code === "EADDRINUSE";
      if (!isInUse || clock.now() - begun > CLOSE_TIMEOUT_MS) throw error;
    }
    await pause(clock, RETRY_MS);
  }
}
