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
    // Closed meanwhile, or never opened.
    attempt(() => socket.close(GOING_AWAY, GOING_AWAY_REASON));
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
  readonly bytesWritten: number;
  readonly destroyed: boolean;
  readonly writable: boolean;
  listenerCount(event: string): number;
  once(event: "close", listener: () => void): unknown;
  write(bytes: Uint8Array): unknown;
}

/**
 * The WebSockets of a server whose library does not know of the drain: a program below a preload.
 * They are closed on the wire.
 */
export interface RawWebSockets {
  /**
   * Knows one for as long as it is open.
   *
   * @param written What had been written before the answer to its handshake, in bytes.
   */
  add(socket: RawSocket, written: number): void;
  /**
   * Asks the clients to close, each once. Called again for those whose handshake has not been
   * answered yet.
   */
  sendAway(): void;
}

/** No WebSockets yet. */
export function createRawWebSockets(): RawWebSockets {
  /** Those whose clients have not been asked, with what had been written before the handshake. */
  const open = new Map<RawSocket, number>();
  return {
    add(socket, written) {
      if (socket.destroyed) return;
      open.set(socket, written);
      socket.once("close", () => open.delete(socket));
    },
    sendAway() {
      for (const [socket, before] of open) {
        if (socket.bytesWritten === before) continue;
        open.delete(socket);
        // Libraries write each frame in one piece, and a control frame may stand between any two
        // (RFC 6455, section 5.4); the bytes of a proxy, which are piped, come as they come.
        const isPiped = socket.listenerCount("unpipe") > 0;
        if (!socket.destroyed && socket.writable && !isPiped) socket.write(GOING_AWAY_FRAME);
      }
    },
  };
}
