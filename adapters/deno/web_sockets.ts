/** The WebSockets of Deno.upgradeWebSocket. */
import { attempt } from "../../src/core/attempt.ts";
import { type NativeWebSockets, type RawWebSocket, upgradeRequired } from "../shared/live_web_socket.ts";

/** The part of the global `Deno` that is used here. */
interface Deno {
  upgradeWebSocket(
    request: Request,
    options: { protocol?: string; idleTimeout?: number },
  ): { socket: WebSocket; response: Response };
}

function rawOf(socket: WebSocket): RawWebSocket {
  return {
    get bufferedAmount() {
      return socket.bufferedAmount;
    },
    protocol: socket.protocol,
    inner: socket,
    send: (data) => socket.send(data as ArrayBuffer),
    close: (code, reason) => socket.close(code, reason),
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
      const { hostname, port } = (more as { remoteAddr?: { hostname?: string; port?: number } } | undefined)?.remoteAddr ?? {};
      return hostname === undefined || port === undefined ? undefined : { address: hostname, port };
    },
    upgrade(request, _more, events, { protocol, isTracked }) {
      if (request.headers.get("upgrade")?.toLowerCase() !== "websocket") return upgradeRequired();
      const { socket, response } = deno.upgradeWebSocket(request, {
        ...(protocol !== undefined && { protocol }),
        // While the answer to a ping of Deno's own is on its way, it is not known where a message ends.
        ...(isTracked && { idleTimeout: 0 }),
      });
      socket.binaryType = "arraybuffer";
      socket.onopen = () => events.opened();
      socket.onmessage = ({ data }) => events.message(typeof data === "string" ? data : new Uint8Array(data));
      socket.onclose = ({ code, reason }) => events.closed(code, reason);
      socket.onerror = () => {}; // `close` follows.
      events.upgraded(rawOf(socket)); // The client may be there before Deno says so.
      return response;
    },
  };
}
