import { GOING_AWAY, GOING_AWAY_REASON } from "../core/going_away.ts";
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
    try {
      socket.close(GOING_AWAY, GOING_AWAY_REASON);
    } catch {
      // Closed meanwhile, or never opened.
    }
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
