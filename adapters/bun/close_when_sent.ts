/** A WebSocket of Bun's. */
export interface BunWebSocket {
  readonly readyState: number;
  getBufferedAmount(): number;
  close(code?: number, reason?: string): void;
}

/** Milliseconds between two looks at what was not sent yet. */
const CHECK_MS = 10;

/**
 * Closes a WebSocket when its client has read what was sent to it. Bun 1.4 no longer counts one that
 * was closed: the rest would end with the process.
 */
export function closeWhenSent(
  socket: BunWebSocket,
  code: number | undefined,
  reason: string | undefined,
): void {
  if (socket.readyState !== WebSocket.OPEN) return;
  if (socket.getBufferedAmount() === 0) return socket.close(code, reason);
  setTimeout(() => closeWhenSent(socket, code, reason), CHECK_MS);
}
