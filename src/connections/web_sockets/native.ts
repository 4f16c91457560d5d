/** WebSockets of Bun.serve and Deno.serve that go on in the next generation. */
import type { WebSocketAdapter } from "../../../adapters/detect_web_sockets.ts";
import {
  createLiveWebSocket,
  type LiveWebSocket,
  type LiveWebSocketControl,
  type WebSocketEvents,
} from "../../../adapters/shared/live_web_socket.ts";
import { GOING_AWAY, GOING_AWAY_REASON } from "../../core/going_away.ts";
import {
  createNativeSocket,
  type Entry,
  type NativeSocket,
  type Served,
} from "../../core/native_socket.ts";
import type { Token } from "../../core/token.ts";
import { whenCancelled } from "../../core/when_cancelled.ts";
import { payloadBytes, track, trackClient, type Tracked } from "./tracked.ts";

/** What the application does with them. */
export interface NativeHandlers<Session> {
  /** Whether each moves by itself. */
  readonly independent: boolean;
  accept(socket: LiveWebSocket, session: Session | undefined, request: Request | undefined): void;
  release(socket: LiveWebSocket, isLate: boolean): Session | undefined;
}

/** What the next generation must know of one, besides its session. */
interface Moved<Session> {
  readonly server: string;
  readonly protocol: string;
  /** The extensions that its client has offered: the server agrees to the same ones again. */
  readonly extensions: string;
  readonly session: Session;
}

/** A subprotocol: a token of RFC 9110, section 5.6.2. It becomes a header. */
const PROTOCOL = /^[\w!#$%&'*+.^`|~-]*$/;
/** A list of extensions and their parameters: the value of a header as well. */
const EXTENSIONS = /^[\x20-\x7e\t]*$/;

/** What came in a message; `undefined` for anything else. */
function parseMoved<Session>(message: unknown): Moved<Session> | undefined {
  const { server, protocol, extensions, session } = (message ?? {}) as Partial<Moved<Session>>;
  const isText = (value: unknown, pattern: RegExp) =>
    typeof value === "string" && pattern.test(value);
  if (
    typeof server !== "string" || !isText(protocol, PROTOCOL) || !isText(extensions, EXTENSIONS) ||
    session === undefined
  ) return undefined;
  return { server, protocol, extensions, session } as Moved<Session>;
}

/** The WebSockets of a group. */
export interface NativeGroup {
  /** Completes the handshake of a request, and serves its WebSocket. */
  upgrade(request: Request, more: unknown, protocol: string | undefined): Response | undefined;
}

const OPEN = 1;

type Message = string | ArrayBufferView | ArrayBuffer;

/** What is known of a WebSocket. */
interface State {
  readonly extensions: string;
  control: LiveWebSocketControl | undefined;
  tracked: Tracked | undefined;
  socket: NativeSocket | undefined;
}

function servedBy({ raw, socket }: LiveWebSocketControl, tracked: Tracked | undefined): Served {
  return {
    get bufferedAmount() {
      return raw.bufferedAmount;
    },
    get progress() {
      return (tracked?.messages ?? 0) - raw.bufferedAmount;
    },
    isAtRest: () =>
      socket.readyState === OPEN && raw.bufferedAmount === 0 &&
      tracked?.isBetweenMessages() === true,
    terminate: raw.terminate,
  };
}

/** A group. */
interface Group<Session> {
  readonly adapter: WebSocketAdapter;
  readonly handlers: NativeHandlers<Session>;
  readonly states: WeakMap<NativeSocket, State>;
  /** Those that the application has. */
  readonly open: Set<LiveWebSocket>;
}

/** Serves the WebSockets of a group. */
export function serveNative<Session>(
  token: Token,
  name: string,
  adapter: WebSocketAdapter,
  handlers: NativeHandlers<Session>,
): NativeGroup {
  const group: Group<Session> = { adapter, handlers, states: new WeakMap(), open: new Set() };
  const live = token.live<Moved<Session>, NativeSocket>(name, {
    independent: handlers.independent,
    accept(socket, message) {
      if (message === undefined) return;
      const moved = parseMoved<Session>(message);
      if (moved === undefined) return void socket.destroy();
      socket.arrival = socket.goOn?.(moved.server, entryOf(group, socket, moved));
    },
    release: (socket, isLate) => release(group, socket, isLate),
  });
  whenCancelled(token, () => {
    for (const socket of group.open) socket.close(GOING_AWAY, GOING_AWAY_REASON);
  });
  return {
    upgrade: (request, more, protocol) => upgrade(group, live.add, request, more, protocol),
  };
}

/** Gives a WebSocket to the application. */
function begin<Session>(
  { open, handlers }: Group<Session>,
  control: LiveWebSocketControl,
  session: Session | undefined,
  request: Request | undefined,
): void {
  open.add(control.socket);
  handlers.accept(control.socket, session, request);
}

function release<Session>(
  { states, handlers, open }: Group<Session>,
  socket: NativeSocket,
  isLate: boolean,
): Moved<Session> | undefined {
  const { control, extensions = "" } = states.get(socket) ?? {};
  if (control === undefined || socket.server === undefined || !socket.served?.isAtRest()) {
    return undefined;
  }
  const session = handlers.release(control.socket, isLate);
  if (session === undefined) return undefined;
  control.retire();
  open.delete(control.socket);
  return { server: socket.server, protocol: control.raw.protocol, extensions, session };
}

/** What hears of a WebSocket, and keeps what is known of it. */
function eventsOf<Session>(
  { adapter: { sockets: { answersPings } }, open }: Group<Session>,
  state: State,
  upgraded: (control: LiveWebSocketControl) => void,
  opened: () => void,
): WebSocketEvents {
  return {
    upgraded(raw) {
      const onSend = answersPings
        ? (data: Message) => state.tracked?.sent(payloadBytes(data))
        : () => {};
      upgraded(state.control = createLiveWebSocket(raw, onSend));
    },
    opened,
    message(data) {
      state.tracked?.received(payloadBytes(data));
      state.control?.deliver(data);
    },
    control: (bytes) => state.tracked?.received(bytes),
    closed(code, reason) {
      const { control } = state;
      if (control === undefined) return;
      open.delete(control.socket);
      control.closed(code, reason);
      state.socket?.emitClose();
    },
  };
}

/** Completes the handshake of a client. */
function upgrade<Session>(
  group: Group<Session>,
  add: (socket: NativeSocket) => void,
  request: Request,
  more: unknown,
  protocol: string | undefined,
): Response | undefined {
  const { adapter: { sockets, libc }, states } = group;
  const library = libc();
  const client = sockets.clientOf(request, more);
  const tracked = library && client && trackClient(library, client, sockets.answersPings);
  const extensions = request.headers.get("sec-websocket-extensions") ?? "";
  const state: State = { extensions, control: undefined, tracked, socket: undefined };
  const events = eventsOf(
    group,
    state,
    (control) => begin(group, control, undefined, request),
    () => {
      const { control } = state;
      if (control === undefined) return;
      tracked?.begin();
      control.arrived();
      if (tracked === undefined) return;
      state.socket = createNativeSocket(tracked.fd, servedBy(control, tracked));
      states.set(state.socket, state);
      add(state.socket);
    },
  );
  return sockets.upgrade(request, more, events, { protocol, isTracked: tracked !== undefined });
}

/** How a connection begins that comes from another process. */
function entryOf<Session>(
  group: Group<Session>,
  socket: NativeSocket,
  moved: Moved<Session>,
): Entry {
  const { adapter: { sockets, libc }, states } = group;
  const { protocol, extensions, session } = moved;
  const opened = Promise.withResolvers<void>();
  const state: State = { extensions, control: undefined, tracked: undefined, socket };
  const events = eventsOf(
    group,
    state,
    (control) => begin(group, control, session, undefined),
    opened.resolve,
  );
  return {
    headers: {
      ...(protocol !== "" && { "Sec-WebSocket-Protocol": protocol }),
      ...(extensions !== "" && { "Sec-WebSocket-Extensions": extensions }),
    },
    opened: opened.promise,
    upgrade: (request: Request, more: unknown) =>
      sockets.upgrade(request, more, events, {
        protocol: protocol === "" ? undefined : protocol,
        isTracked: true,
      }),
    arrived(fd) {
      const library = libc();
      const { control } = state;
      if (control === undefined || library === undefined) return;
      state.tracked = track(library, fd, sockets.answersPings);
      Object.assign(socket, { fd, served: servedBy(control, state.tracked) });
      states.set(socket, state);
      control.arrived();
    },
    failed() {
      opened.resolve();
      state.control?.closed(1006, "");
      socket.emitClose();
    },
  };
}
