/** The WebSockets of Deno.upgradeWebSocket. */
import { attempt } from "../../src/core/attempt.ts";
import {
  type NativeWebSockets,
  type RawWebSocket,
  upgradeRequired,
} from "../shared/live_web_socket.ts";

/** The part of the global `Deno` that is used here. */
interface Deno {
  upgradeWebSocket(
    request: Request,
    options: { protocol?: string; idleTimeout?: number },
  ): { socket: WebSocket; response: Response };
}

/** The member that tells which side a WebSocket is, and its value for a client's. */
const ROLE = "[[role]]";
const CLIENT = 1;

/**
 * Closes a WebSocket of a server. When a message comes before the close frame has been sent, Deno
 * 2.9 drops the connection (ext/websocket/01_websocket.js, eventLoop), and the client sees 1006. It
 * waits for the answer on the client's side.
 */
export function closeWebSocket(
  socket: WebSocket,
  code: number | undefined,
  reason: string | undefined,
): void {
  socket.close(code, reason);
  const role = Object.getOwnPropertySymbols(socket).find(({ description }) => description === ROLE);
  if (role !== undefined) (socket as unknown as Record<symbol, number>)[role] = CLIENT;
}

function rawOf(socket: WebSocket): RawWebSocket {
  return {
    get bufferedAmount() {
      return socket.bufferedAmount;
    },
    protocol: socket.protocol,
    inner: socket,
    send: (data) => socket.send(data as ArrayBuffer),
    close: (code, reason) => closeWebSocket(socket, code, reason),
    // It finds that its client has gone.
    terminate: () => void attempt(() => socket.close()),
  };
}

/** For Deno.serve. */
export function denoWebSockets(deno: Deno): NativeWebSockets {
  return {
    handlers: undefined,
    answersPings: true,
    clientOf(_request, more) {
      const { hostname, port } =
        (more as { remoteAddr?: { hostname?: string; port?: number } } | undefined)?.remoteAddr ??
          {};
      return hostname === undefined || port === undefined ? undefined : { address: hostname, port };
    },
    upgrade(request, _more, events, { protocol, isTracked }) {
      if (request.headers.get("upgrade")?.toLowerCase() !== "websocket") return upgradeRequired();
      const { socket, response } = deno.upgradeWebSocket(request, {
        ...(protocol !== undefined && { protocol }),
        // While the answer to a ping of Deno's own is on its way, it is not known where a message
        // ends.
        ...(isTracked && { idleTimeout: 0 }),
      });
      socket.binaryType = "arraybuffer";
      socket.onopen = () => events.opened();
      socket.onmessage = ({ data }) =>
        events.message(typeof data === "string" ? data : new Uint8Array(data));
      socket.onclose = ({ code, reason }) => events.closed(code, reason);
      socket.onerror = () => {}; // `close` follows.
      events.upgraded(rawOf(socket)); // The client may be there before Deno reports it.
      return response;
    },
  };
}
