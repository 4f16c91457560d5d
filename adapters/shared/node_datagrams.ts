/** Sockets of node:dgram, which Node, Bun and Deno all have; and how Node passes them on. */
import type { BindOptions, Socket } from "node:dgram";
import type {
  BindableDatagrams,
  DatagramAdapter,
  DatagramSocket,
} from "../../src/core/datagrams.ts";
import type { InheritedAddress } from "../../src/core/native.ts";
import type { SharedSocket } from "../../src/core/shared_socket.ts";
import { callOriginal, forgetOpened, isOpened } from "../../src/core/marks.ts";
import { createOpening, isMemberByCode, joinAgain } from "./datagram_opening.ts";

/**
 * The state of a socket, which all three keep under a symbol. `_handle` and its like are
 * deprecated: DEP0112.
 */
interface State {
  /** `null` when the socket is closed. */
  readonly handle: object | null;
}

function stateOf(socket: Socket): State | undefined {
  const members = socket as unknown as Record<symbol, Partial<State> | undefined>;
  return Object.getOwnPropertySymbols(socket).map((symbol) => members[symbol])
    .find((state): state is State => typeof state === "object" && state?.handle !== undefined);
}

/** What is below a socket; `undefined` when it is closed. */
export function handleOf<H>(socket: Socket): H | undefined {
  return stateOf(socket)?.handle as H | undefined ?? undefined;
}

/**
 * Calls a function while another socket than the predecessor's is below; see
 * descriptor_datagrams.ts.
 */
export type Aside = <T>(call: () => T) => T;

/** A socket of node:dgram, which can be opened on another's. */
export interface LaterSocket extends BindableDatagrams {
  readonly later: {
    /** Opens it on what came. */
    on(shared: SharedSocket, aside?: Aside): void;
    /** Opens a new socket with the port of one that is gone. */
    anew(inherited: InheritedAddress): Promise<void>;
  };
}

/** Calls `bind`, and waits until the socket is open. */
function bound(socket: Socket, bind: () => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = (error?: unknown) => {
      socket.off("error", settle);
      socket.off("listening", settle);
      if (error === undefined) resolve();
      else reject(error);
    };
    socket.on("error", settle);
    socket.on("listening", settle);
    try {
      bind();
    } catch (error) {
      settle(error);
    }
  });
}

/** As `bound`, but the application does not hear of an error: the attempt will be repeated. */
async function boundQuietly(socket: Socket, bind: () => void): Promise<void> {
  const { emit } = socket;
  const failed = Promise.withResolvers<never>();
  socket.emit = function (this: Socket, event: string, ...args: unknown[]) {
    if (event !== "error") return Reflect.apply(emit, this, [event, ...args]);
    failed.reject(args[0]);
    return true;
  } as Socket["emit"];
  try {
    await Promise.race([bound(socket, bind), failed.promise]);
  } finally {
    socket.emit = emit;
  }
}

/**
 * A socket of the application's.
 *
 * @param openOn Opens it on what came. The socket is polled when the call returns.
 */
export function createBindable(
  socket: Socket,
  key: string,
  { port, host }: { port: number; host: string | undefined },
  openOn: (shared: SharedSocket, aside: Aside) => void,
): LaterSocket {
  const bind = (options: BindOptions) =>
    callOriginal<Socket, [BindOptions]>(socket, socket.bind, options);
  const opening = createOpening<void>();
  const { settle } = opening;
  return {
    key,
    opened: opening.opened,
    get isClosed() {
      return opening.hasFailed || handleOf(socket) === undefined;
    },
    reported: () => ({ ...socket.address() }),
    bind() {
      if (!isOpened(socket)) return settle(bound(socket, () => bind({ port, address: host })));
      forgetOpened(socket);
      return settle(Promise.resolve());
    },
    later: {
      on(shared, aside = (call) => call()) {
        settle(bound(socket, () => openOn(shared, aside))).catch(() => {}); // `opened` reports it.
      },
      async anew({ reported }) {
        await boundQuietly(socket, () => bind({ port: Number(reported.port), address: host }));
        await settle(Promise.resolve());
      },
    },
    fail: (error) => void settle(Promise.reject(error)).catch(() => {}),
    close() {
      if (handleOf(socket) !== undefined) socket.close();
    },
  };
}

/** What is below a socket of Node's. */
interface NodeHandle {
  recvStart(): void;
  recvStop(): void;
  close(): void;
  hasRef(): boolean;
  getpeername(out: { address?: string; port?: number }): number;
  disconnect(): number;
  connect(address: string, port: number): number;
  connect6(address: string, port: number): number;
}

/**
 * Lets the application connect a socket again that the predecessor has connected: Node does not
 * know of it, and the kernel refuses.
 */
function connectAgain(handle: NodeHandle, type: string): void {
  const peer: { address?: string; port?: number } = {};
  if (handle.getpeername(peer) !== 0) return;
  const connect = type === "udp6" ? handle.connect6 : handle.connect;
  handle.connect = function (address, port) {
    if (address === peer.address && port === peer.port) return 0;
    this.disconnect();
    return connect.call(this, address, port);
  };
}

/**
 * The sockets of node:dgram on Node. They are sent as handles, which libuv cannot do on Windows.
 */
export function nodeDatagrams(isWindows: boolean): DatagramAdapter {
  const sockets = new WeakMap<DatagramSocket, Socket>();
  const handle = (one: DatagramSocket) => handleOf<NodeHandle>(sockets.get(one) as Socket);
  return {
    sendsHandles: true,
    refusal: () => isWindows ? "Node cannot do that on Windows" : undefined,
    bindable(socket, key, where) {
      const own = socket as Socket & { type: string };
      const one = createBindable(own, key, where, (shared) => {
        const { handle } = shared as { handle: NodeHandle };
        // Its listeners may find out where it is, and set its options, but hear nothing yet.
        own.prependOnceListener("listening", () => handle.recvStop());
        joinAgain(own, isMemberByCode);
        connectAgain(handle, own.type);
        const isReferenced = handleOf<NodeHandle>(own)?.hasRef();
        own.bind(handle as object);
        if (isReferenced === false) own.unref();
      });
      sockets.set(one, own);
      return one;
    },
    share(socket) {
      const found = handle(socket);
      return found && { handle: found };
    },
    place: () => undefined,
    open: (socket, shared) => (socket as LaterSocket).later.on(shared),
    openAnew: (socket, inherited) => (socket as LaterSocket).later.anew(inherited),
    discard: (shared) => "handle" in shared && (shared.handle as NodeHandle).close(),
    suspend: (socket) => void handle(socket)?.recvStop(),
    resume: (socket) => void handle(socket)?.recvStart(),
  };
}
