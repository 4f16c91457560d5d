/** WebSockets whose library does not know of the drain: a program below a preload. They are closed on the wire. */
import { GOING_AWAY_FRAME } from "../core/going_away.ts";

/** The part of a socket of node:net that is used here. */
export interface RawSocket {
  readonly bytesWritten: number;
  readonly destroyed: boolean;
  readonly writable: boolean;
  listenerCount(event: string): number;
  once(event: "close", listener: () => void): unknown;
  write(bytes: Uint8Array): unknown;
}

/** The WebSockets of a server. */
export interface RawWebSockets {
  /**
   * Knows one for as long as it is open.
   *
   * @param written What had been written before the answer to its handshake, in bytes.
   */
  add(socket: RawSocket, written: number): void;
  /** Asks the clients to close, each once. Called again for those whose handshake has not been answered yet. */
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
        // Libraries write each frame in one piece, and a control frame may stand between any two (RFC 6455, section 5.4); the bytes of a
        // proxy, which are piped, come as they come.
        const isPiped = socket.listenerCount("unpipe") > 0;
        if (!socket.destroyed && socket.writable && !isPiped) socket.write(GOING_AWAY_FRAME);
      }
    },
  };
}
