/**
 * What is counted of a WebSocket that the runtime serves, to know when it is between two messages.
 */
import type { Libc, SocketAddress } from "../../core/socket_adapter.ts";
import { findConnection } from "../../linux/socket_scan.ts";
import { keepAlive, readTcp } from "../../linux/tcp.ts";
import { type Counts, frameBytes, isAtBoundary } from "../../linux/web_socket_boundary.ts";

/** A connection whose bytes are counted. */
export interface Tracked {
  readonly fd: number;
  /** How many messages the application got. */
  readonly messages: number;
  /** The application got a message, or is to be told of a control frame. */
  received(payload: number): void;
  /** The application has sent a message. */
  sent(payload: number): void;
  /** The handshake has been answered: what is written from now on are frames. */
  begin(): void;
  /** Whether it is between two messages, as far as what came is concerned. */
  isBetweenMessages(): boolean;
}

/**
 * Counts from this moment on.
 *
 * @param fd The descriptor of the connection.
 */
export function track(libc: Libc, fd: number, answersPings: boolean): Tracked | undefined {
  if (answersPings) keepAlive(libc, fd);
  const state = readTcp(libc, fd);
  if (state === undefined) return undefined;
  let messages = 0;
  let counts: Counts = { read: state.read, written: state.written, received: 0, sent: 0 };
  return {
    fd,
    get messages() {
      return messages;
    },
    received(payload) {
      messages++;
      counts.received += frameBytes(payload, true);
    },
    sent: (payload) => void (counts.sent += frameBytes(payload, false)),
    begin() {
      counts = { ...counts, written: readTcp(libc, fd)?.written ?? 0 };
    },
    isBetweenMessages() {
      const now = readTcp(libc, fd);
      return now !== undefined && isAtBoundary(counts, now, answersPings);
    },
  };
}

/**
 * Counts the bytes of a connection whose handshake is to be answered: what this process has read by
 * now are the bytes of the handshake.
 */
export function trackClient(
  libc: Libc,
  client: Pick<SocketAddress, "address" | "port">,
  answersPings: boolean,
): Tracked | undefined {
  const fd = findConnection(libc, client);
  return fd === undefined ? undefined : track(libc, fd, answersPings);
}

const encoder = new TextEncoder();

/** The length of a message, in bytes. */
export function payloadBytes(data: string | ArrayBufferView | ArrayBuffer): number {
  return typeof data === "string" ? encoder.encode(data).length : data.byteLength;
}
