/** The WebSockets of a runtime's own servers. */
import type { SocketAddress } from "../../src/core/socket_adapter.ts";
import type { RawWebSocket } from "./live_web_socket.ts";

/** What hears of a WebSocket. */
export interface WebSocketEvents {
  /** The handshake is being answered: the application may have it. */
  upgraded(raw: RawWebSocket): void;
  /** Its client can be reached. */
  opened(): void;
  message(data: string | Uint8Array): void;
  /** A ping or a pong came, with so many bytes. Where the runtime says so. */
  control(bytes: number): void;
  closed(code: number, reason: string): void;
}

/** The WebSockets of a runtime. */
export interface NativeWebSockets {
  /** The option `websocket` of Bun.serve. */
  readonly handlers: object | undefined;
  /** Whether it sends and gets control frames without a word to the application. */
  readonly answersPings: boolean;
  /** The address of the client, from what a handler gets. */
  clientOf(request: Request, more: unknown): Pick<SocketAddress, "address" | "port"> | undefined;
  /**
   * Completes the handshake.
   *
   * @param protocol The subprotocol that was chosen.
   * @param isTracked Whether its bytes are counted, and the kernel sees to it that its client is there.
   * @returns The answer; `undefined` where the runtime has given it.
   */
  upgrade(
    request: Request,
    more: unknown,
    events: WebSocketEvents,
    options: { readonly protocol: string | undefined; readonly isTracked: boolean },
  ): Response | undefined;
}

/** The answer to a request that is no handshake. */
export function upgradeRequired(): Response {
  return new Response("this address is for WebSockets\n", { status: 426, headers: { "Upgrade": "websocket" } });
}
