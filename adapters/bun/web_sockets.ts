/** The WebSockets of Bun.serve. */
import { type BunWebSocket, closeWhenSent } from "./close_when_sent.ts";
import {
  type NativeWebSockets,
  type RawWebSocket,
  upgradeRequired,
  type WebSocketEvents,
} from "../shared/live_web_socket.ts";

/** A WebSocket of Bun's, and what belongs to it. */
interface Socket extends BunWebSocket {
  readonly data: Data;
  send(data: string | ArrayBufferView | ArrayBuffer): number;
  terminate(): void;
}
interface Data {
  readonly events: WebSocketEvents;
  readonly protocol: string;
}
/** The part of a server that is used here. */
interface Server {
  requestIP(request: Request): { readonly address: string; readonly port: number } | null;
  upgrade(request: Request, options: { data: Data; headers?: Record<string, string> }): boolean;
}

function rawOf(socket: Socket): RawWebSocket {
  return {
    get bufferedAmount() {
      return socket.getBufferedAmount();
    },
    protocol: socket.data.protocol,
    inner: socket,
    send: (data) => void socket.send(data),
    close: (code, reason) => closeWhenSent(socket, code, reason),
    terminate: () => socket.terminate(),
  };
}

/** For Bun.serve. */
export const bunWebSockets: NativeWebSockets = {
  handlers: {
    open(socket: Socket) {
      socket.data.events.upgraded(rawOf(socket));
      socket.data.events.opened();
    },
    message: (socket: Socket, data: string | Uint8Array) => socket.data.events.message(data),
    close: (socket: Socket, code: number, reason: string) =>
      socket.data.events.closed(code, reason),
    ping: (socket: Socket, data: Uint8Array) => socket.data.events.control(data.length),
    pong: (socket: Socket, data: Uint8Array) => socket.data.events.control(data.length),
  },
  answersPings: false,
  clientOf: (request, more) => (more as Server).requestIP(request) ?? undefined,
  upgrade(request, more, events, { protocol }) {
    const isUpgraded = (more as Server).upgrade(request, {
      data: { events, protocol: protocol ?? "" },
      ...(protocol !== undefined && { headers: { "Sec-WebSocket-Protocol": protocol } }),
    });
    return isUpgraded ? undefined : upgradeRequired();
  },
};
