import { attempt } from "../core/attempt.ts";
import { GOING_AWAY, GOING_AWAY_FRAME, GOING_AWAY_REASON } from "../core/going_away.ts";
import type { WebSocketLike } from "../core/token.ts";

const CLOSED = 3;

/** The WebSockets of this process. */
export interface WebSockets {
  add(socket: WebSocketLike): void;
}

/** Closes WebSockets when the signal fires, so that their clients connect to the new process. */
export function createWebSockets(signal: AbortSignal): WebSockets {
  const sockets = new Set<WebSocketLike>();
  /** The number of sockets at which those that have closed are dropped. */
  let limit = 1_000;

  function tell(socket: WebSocketLike): void {
    sockets.delete(socket);
    attempt(() => socket.close(GOING_AWAY, GOING_AWAY_REASON)); // Closed meanwhile, or never opened.
  }

  signal.addEventListener("abort", () => [...sockets].forEach(tell));
  return {
    add(socket) {
      if (signal.aborted) return tell(socket);
      sockets.add(socket);
      if (sockets.size < limit) return;
      for (const other of sockets) if (other.readyState === CLOSED) sockets.delete(other);
      limit = Math.max(1_000, 2 * sockets.size);
    },
  };
}

/** The part of a socket of node:net that is used here. */
export interface RawSocket {
  readonly destroyed: boolean;
  readonly writable: boolean;
  listenerCount(event: string): number;
  once(event: "close", listener: () => void): unknown;
  write(bytes: Uint8Array): unknown;
}

/** Knows a WebSocket whose library does not know of the drain, in a program below a preload, for as long as it is open. */
export function followWebSocket(socket: RawSocket, open: Set<RawSocket>): void {
  open.add(socket);
  socket.once("close", () => open.delete(socket));
}

/**
 * Asks the client to close. Libraries write each frame in one piece, and a control frame may stand between any two (RFC 6455, section 5.4);
 * the bytes of a proxy, which are piped, come as they come.
 */
export function sendGoingAway(socket: RawSocket): void {
  const isPiped = socket.listenerCount("unpipe") > 0;
  if (!socket.destroyed && socket.writable && !isPiped) socket.write(GOING_AWAY_FRAME);
}
