/** A WebSocket of the package ws. The members with an underscore are private ones of version 8. */
import type { LiveSocket } from "../core/live.ts";

/** The part of a WebSocket that is used here. */
export interface WsSocket {
  readonly readyState: number;
  readonly protocol: string;
  readonly _socket?: LiveSocket | null;
  readonly _extensions?: Readonly<Record<string, Deflate | undefined>>;
  readonly _receiver?: Receiver | null;
  readonly _sender?: Sender | null;
  _readyState?: number;
  on(event: string, listener: () => void): unknown;
  close(code?: number, reason?: string): void;
  /** Serves a connection. */
  setSocket(connection: LiveSocket, head: Uint8Array, options: object): void;
}

interface Receiver {
  readonly _state: number;
  readonly _loop: boolean;
  readonly _bufferedBytes: number;
  readonly _fragmented: number;
  readonly writableLength: number;
}

interface Sender {
  readonly _state: number;
  readonly _bufferedBytes: number;
  readonly _queue: readonly unknown[];
}

/** The extension permessage-deflate of RFC 7692. */
interface Deflate {
  readonly params?: Readonly<Record<string, unknown>>;
  readonly _deflate?: unknown;
  readonly _inflate?: unknown;
}

const OPEN = 1;
const CLOSED = 3;
/** The receiver waits for a frame. */
const GET_INFO = 0;
/** The sender does nothing. */
const IDLE = 0;

/** Whether what is known of a WebSocket can be taken from it. The `ws` of Bun is another one. */
export function isMovable(socket: WsSocket): boolean {
  return typeof socket.setSocket === "function" && typeof socket._receiver?._state === "number" &&
    Array.isArray(socket._sender?._queue);
}

/** Whether no compressor has anything to remember from one message to the next. */
function isStateless({ params, _deflate, _inflate }: Deflate): boolean {
  const isUnused = !_deflate && !_inflate;
  return isUnused ||
    (params?.server_no_context_takeover === true && params.client_no_context_takeover === true);
}

/** Whether another process could go on with a WebSocket now. */
export function isBetweenMessages(
  { readyState, _receiver, _sender, _extensions }: WsSocket,
): boolean {
  return readyState === OPEN &&
    _receiver?._state === GET_INFO && !_receiver._loop && _receiver._fragmented === 0 &&
    _receiver._bufferedBytes === 0 && _receiver.writableLength === 0 &&
    _sender?._state === IDLE && _sender._bufferedBytes === 0 && _sender._queue.length === 0 &&
    Object.values(_extensions ?? {}).every((extension) =>
      extension === undefined || isStateless(extension)
    );
}

/** Lets nothing be sent any more: another process goes on with the connection. */
export function retireSocket(socket: WsSocket): void {
  socket._readyState = CLOSED;
}
