import { GOING_AWAY, GOING_AWAY_REASON } from "../../src/core/going_away.ts";

/** A WebSocket that is to be closed. */
export interface Leaving {
  readonly readyState: number;
  close(code: number, reason: string): void;
}

/** Milliseconds between two looks at what was not sent yet. */
const CHECK_MS = 10;

/**
 * Closes a WebSocket, with 1001, when its client has read what was sent to it. Bun 1.4 no longer
 * counts one that was closed: the rest would end with the process.
 *
 * @param buffered How many bytes have not been sent yet.
 */
export function closeWhenSent(socket: Leaving, buffered: () => number): void {
  if (socket.readyState !== WebSocket.OPEN) return;
  if (buffered() === 0) socket.close(GOING_AWAY, GOING_AWAY_REASON);
  else setTimeout(() => closeWhenSent(socket, buffered), CHECK_MS);
}
