/** WebSockets whose library does not know of the drain: a program below a preload. They are closed on the wire. */
import { GOING_AWAY_FRAME } from "../core/going_away.ts";

/** The part of a socket of node:net that is used here. */
export interface RawSocket {
  readonly destroyed: boolean;
  readonly writable: boolean;
  listenerCount(event: string): number;
  once(event: "close", listener: () => void): unknown;
  write(bytes: Uint8Array): unknown;
}

/** Knows a WebSocket for as long as it is open. */
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
