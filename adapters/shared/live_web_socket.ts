/** A WebSocket of Bun.serve or Deno.serve that can move to another process. */
import type { SocketAddress } from "../../src/core/socket_adapter.ts";

/** What a runtime has. */
export interface RawWebSocket {
  readonly bufferedAmount: number;
  readonly protocol: string;
  /** The object of the runtime. */
  readonly inner: unknown;
  send(data: string | ArrayBufferView | ArrayBuffer): void;
  close(code?: number, reason?: string): void;
  /** Closes it without a word. */
  terminate(): void;
}

/**
 * A WebSocket, as an application sees it that is to run on all runtimes. It is the same object as
 * long as one process serves the connection. Events: `message`, with `data` as a string or a
 * Uint8Array, and `close`, with `code` and `reason`.
 */
export interface LiveWebSocket extends EventTarget {
  /** 1 while it is open, 2 or 3 afterwards. */
  readonly readyState: number;
  /** The bytes that were sent and have not left this process. */
  readonly bufferedAmount: number;
  /** The subprotocol. */
  readonly protocol: string;
  /**
   * The object of the runtime: on Bun that with `subscribe` and `publish`. Another one in each
   * generation.
   */
  readonly raw: unknown;
  /** Called for each message. */
  onmessage: ((event: MessageEvent) => void) | null;
  /** Called when it is closed. */
  onclose: ((event: CloseEvent) => void) | null;
  /** Sends a message. */
  send(data: string | ArrayBufferView | ArrayBuffer): void;
  /** Closes it. */
  close(code?: number, reason?: string): void;
}

const OPEN = 1;
const CLOSING = 2;
const CLOSED = 3;

/** The event `close`; Bun and Deno have it, Node since 23. */
function closeEvent(code: number, reason: string): CloseEvent {
  return Object.assign(new Event("close"), {
    code,
    reason,
    wasClean: code !== 1006,
  }) as unknown as CloseEvent;
}

/** The side of the library. */
export interface LiveWebSocketControl {
  readonly socket: LiveWebSocket;
  readonly raw: RawWebSocket;
  /** The runtime has a message. */
  deliver(data: string | Uint8Array): void;
  /** The runtime has closed it. */
  closed(code: number, reason: string): void;
  /** What was sent before the client could be reached is sent now. */
  arrived(): void;
  /** The application hears nothing of it any more. */
  retire(): void;
}

/** What waits until the client can be reached. */
function createQueue(): { add(action: () => void): void; open(): void } {
  let waiting: (() => void)[] | undefined = [];
  return {
    add: (action) => waiting === undefined ? action() : void waiting.push(action),
    open() {
      const actions = waiting ?? [];
      waiting = undefined;
      for (const action of actions) action();
    },
  };
}

/**
 * Makes one whose client cannot be reached yet: what is sent waits for `arrived`.
 *
 * @param onSend Called with each message that is sent.
 */
export function createLiveWebSocket(
  raw: RawWebSocket,
  onSend: (data: string | ArrayBufferView | ArrayBuffer) => void,
): LiveWebSocketControl {
  let readyState = OPEN;
  let isRetired = false;
  const queue = createQueue();

  const socket = Object.assign(new EventTarget(), {
    onmessage: null as LiveWebSocket["onmessage"],
    onclose: null as LiveWebSocket["onclose"],
    raw: raw.inner,
    protocol: raw.protocol,
    send(data: string | ArrayBufferView | ArrayBuffer) {
      if (readyState !== OPEN) return;
      queue.add(() => {
        onSend(data);
        raw.send(data);
      });
    },
    close(code?: number, reason?: string) {
      if (readyState !== OPEN) return;
      readyState = CLOSING;
      queue.add(() => raw.close(code, reason));
    },
  });
  Object.defineProperties(socket, {
    readyState: { enumerable: true, get: () => readyState },
    bufferedAmount: { enumerable: true, get: () => raw.bufferedAmount },
  });

  function dispatch(event: Event, handler: ((event: never) => void) | null): void {
    if (isRetired) return;
    handler?.call(socket, event as never);
    socket.dispatchEvent(event);
  }

  return {
    socket: socket as unknown as LiveWebSocket,
    raw,
    deliver: (data) => dispatch(new MessageEvent("message", { data }), socket.onmessage),
    closed(code, reason) {
      if (readyState === CLOSED) return;
      readyState = CLOSED;
      dispatch(closeEvent(code, reason), socket.onclose);
    },
    arrived: queue.open,
    retire() {
      isRetired = true;
      readyState = CLOSED;
    },
  };
}

/** What hears of a WebSocket. */
export interface WebSocketEvents {
  /** The handshake is being answered: the application may have it. */
  upgraded(raw: RawWebSocket): void;
  /** Its client can be reached. */
  opened(): void;
  message(data: string | Uint8Array): void;
  /** A ping or a pong came, with so many bytes. Where the runtime tells. */
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
   * @param isTracked Whether its bytes are counted, and the kernel sees to it that its client is
   * there.
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
  return new Response("this address is for WebSockets\n", {
    status: 426,
    headers: { "Upgrade": "websocket" },
  });
}
