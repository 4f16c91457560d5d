/**
 * Datagram sockets. All generations have the same socket, with one queue, from which only one process reads: none is lost between two
 * processes, and none is read twice. What comes while neither reads waits in the socket, up to the size of its buffer (SO_RCVBUF).
 */
import type { DatagramAdapter, DatagramSocket } from "../core/datagrams.ts";
import { describeError } from "../core/describe_error.ts";
import type { InheritedAddress } from "../core/native.ts";
import { DEFAULT_DRAIN_TIMEOUT_MS } from "../core/options.ts";
import { pause } from "../core/pause.ts";
import type { SharedSocket } from "../core/shared_socket.ts";
import { whenCancelled } from "../core/when_cancelled.ts";
import type { OfferedAddress } from "../resources/native_servers.ts";
import type { ProgramContext } from "../reload/context.ts";
import type { Handover, IncomingHandover, IncomingReload, OutgoingHandover, OutgoingReload } from "../reload/handover.ts";
import { explainMissing } from "./common.ts";
import { createWarnOnce } from "./common.ts";
import { whenFree } from "./common.ts";

/** How long a process that shuts down reads on: what has come before is read. */
const LAST_READS_MS = 20;
/** How long a socket stays when nobody needs it any more: node:dgram looks up each address before it sends. */
const LAST_SENDS_MS = 20;
/** The handover, and the way to bind a socket. */
export interface DatagramHandover {
  readonly handover: Handover;
  /** Opens a socket of node:dgram, on the predecessor's where that has one of the same address. */
  bind(socket: unknown, where: { port: number; host: string | undefined }): Promise<void>;
}

function typeOf(socket: unknown): string {
  return String((socket as { type?: unknown }).type);
}

/** The handover of the datagram sockets. */
export function createDatagrams(
  adapter: DatagramAdapter | undefined,
  program: ProgramContext,
): DatagramHandover {
  const { clock, datagrams, options, runtime, token, warn } = program;
  /** The sockets that are open. */
  const open = new WeakSet<DatagramSocket>();
  /** Those from which this process does not read. */
  const suspended = new WeakSet<DatagramSocket>();
  /** Whether this process has read its last datagram. */
  let isEnded = false;
  const warnOnce = createWarnOnce(warn);

  function follow(socket: DatagramSocket): void {
    socket.opened.then(() => void open.add(socket), () => {});
  }
  for (const socket of datagrams.sockets) follow(socket);
  datagrams.onAdd = follow;

  const openSockets = () => datagrams.sockets.filter((socket) => open.has(socket));

  whenCancelled(token, ({ kind }) => {
    if (datagrams.sockets.length === 0) return;
    const read = kind === "reload" ? Promise.resolve() : pause(clock, LAST_READS_MS);
    token.track(read.then(stopReading), { name: "the datagrams that have come" });
    void close();
  });

  /** Closes the sockets when nothing is under way any more that may need them for an answer. */
  async function close(): Promise<void> {
    await token.drained({ timeout: options.drainTimeout ?? DEFAULT_DRAIN_TIMEOUT_MS });
    await pause(clock, LAST_SENDS_MS);
    for (const socket of datagrams.sockets) socket.close();
  }

  /** The end of reading. A socket that cannot be told to wait is closed: it would go on for as long as something comes. */
  function stopReading(): void {
    isEnded = true;
    for (const socket of openSockets()) {
      const refusal = suspend(socket);
      socket.end?.();
      if (refusal !== undefined) socket.close();
    }
  }

  function suspend(socket: DatagramSocket): string | undefined {
    const refusal = suspended.has(socket) ? undefined : adapter?.suspend(socket);
    if (refusal === undefined) suspended.add(socket);
    return refusal;
  }

  function resume(socket: DatagramSocket): string | undefined {
    suspended.delete(socket);
    return socket.isClosed ? undefined : adapter?.resume(socket);
  }

  function outgoing({ link }: OutgoingReload): OutgoingHandover {
    let refusal: string | undefined;
    let offered: readonly DatagramSocket[] = [];
    /** Those that the new process has. */
    const claimed = new Set<DatagramSocket>();
    /** From now on this process does not read from what the new one has. */
    let isSuspending = false;

    async function send(key: string): Promise<void> {
      const socket = offered.find((socket) => socket.key === key && !socket.isClosed);
      const shared = socket && adapter?.share(socket);
      if (socket === undefined || shared === undefined) {
        throw new Error(`the socket of ${key} is not there any more`);
      }
      if ("handle" in shared) await link.send({ socket: key }, shared.handle);
      else {
        const number = link.descriptors?.send([shared.fd]);
        if (number === undefined) {
          throw new Error(`the socket of ${key} cannot be sent: are there descriptors left?`);
        }
        await link.send({ socket: key, number });
      }
      claimed.add(socket);
      if (isSuspending) suspendAll();
    }

    function suspendAll(): void {
      isSuspending = true;
      for (const socket of claimed) {
        const refusal = socket.isClosed ? undefined : suspend(socket);
        if (refusal !== undefined) {
          warnOnce(`${socket.key} is read by both processes until this one ends: ${refusal}`);
        }
      }
    }

    return {
      prepare() {
        offered = openSockets();
        if (offered.length === 0) return;
        refusal = adapter === undefined ? `${runtime} cannot do that` : adapter.refusal();
        if (refusal === undefined) return;
        warnOnce(
          `the datagram socket ${
            offered[0]?.key
          } is not handed over: ${refusal}. A new process can open the port only if the socket is ` +
            "made to share it (`reuseAddr: true`), and a reload may lose datagrams",
        );
        offered = [];
      },
      sendsSockets: () => offered.length > 0 && adapter?.sendsHandles === true,
      sendsDescriptors: () => offered.length > 0 && adapter?.sendsHandles !== true,
      native: () =>
        offered.map((socket): OfferedAddress => ({
          kind: "datagrams",
          key: socket.key,
          reported: socket.reported(),
          place: adapter?.place(socket),
        })),
      offer: () => link.onData(async ({ claim }) => typeof claim === "string" ? await send(claim) : undefined),
      async commit() {
        if (options.saveState === undefined) return;
        suspendAll(); // What this process has read is in the state.
        await pause(clock, 0); // For the events of what has been read.
      },
      handedOver: suspendAll,
      rollback() {
        if (isEnded) return;
        const refusals = [...claimed].filter((socket) => suspended.has(socket)).flatMap(
          (socket) => {
            const refusal = resume(socket);
            return refusal === undefined ? [] : [`${socket.key}: ${refusal}`];
          },
        );
        if (refusals.length > 0) {
          throw new Error(
            `nothing is received any more: ${refusals.join(", ")}; start the program again`,
          );
        }
      },
      explain(code) {
        if (refusal !== undefined && code === "exit") {
          const keys = openSockets().map(({ key }) => key).join(", ");
          return `this process receives on ${keys}, which cannot be handed over: ${refusal}`;
        }
        return explainMissing(
          code,
          offered.filter((socket) => !claimed.has(socket)).map(({ key }) => key),
        );
      },
    };
  }

  function incoming({ link, offered }: IncomingReload): IncomingHandover {
    const { inherited } = datagrams;
    if (inherited.size === 0 || adapter === undefined) return {};
    const complete = Promise.withResolvers<void>();
    /** Those that wait for the predecessor's socket of their name. */
    const waiting = new Map<string, { socket: DatagramSocket; address: InheritedAddress }>();
    const taken = new Set<DatagramSocket>();
    let isInCharge = false;
    /** Whether the predecessor can still be asked. */
    let isOver = false;
    /** A socket from which nothing is read does not keep Node from ending. */
    let release: (() => void) | undefined;

    function claim(socket: DatagramSocket): void {
      follow(socket);
      const { key } = socket;
      const address = inherited.get(key);
      if (address === undefined) return;
      inherited.delete(key);
      waiting.set(key, { socket, address });
      if (isOver) return openRest();
      release ??= clock.hold();
      link.send({ claim: key }).catch(() => {});
    }

    function take(socket: DatagramSocket, shared: SharedSocket): void {
      waiting.delete(socket.key);
      try {
        adapter?.open(socket, shared);
      } catch (error) {
        socket.fail(error);
        throw error;
      }
      suspended.add(socket);
      taken.add(socket);
      if (isInCharge) begin(socket);
      if (inherited.size === 0 && waiting.size === 0) clock.timer(0, complete.resolve);
    }

    function begin(socket: DatagramSocket): void {
      const refusal = isEnded ? undefined : resume(socket);
      if (refusal !== undefined) {
        warn(`${socket.key} receives nothing: ${refusal}. Start the program again`);
      }
    }

    function openRest(): void {
      for (const { socket, address } of waiting.values()) {
        whenFree(clock, () => adapter?.openAnew(socket, address)).catch((error) => {
          warn(`${socket.key} cannot be opened: ${describeError(error)}`);
          socket.fail(error);
        });
      }
      waiting.clear();
      release?.();
    }

    datagrams.onAdd = claim;
    for (const socket of datagrams.sockets) claim(socket);
    link.onData(({ socket: key, number }, handle) => {
      const [fd] = (typeof number === "number" ? link.descriptors?.receive(number) : undefined) ??
        [];
      const shared = fd !== undefined ? { fd } : handle !== undefined && handle !== null ? { handle } : undefined;
      const { socket } = (typeof key === "string" ? waiting.get(key) : undefined) ?? {};
      if (shared === undefined) return;
      if (socket === undefined || socket.isClosed) return adapter?.discard(shared);
      take(socket, shared);
    });

    return {
      complete: offered.then(() => complete.promise),
      takeOver() {
        isInCharge = true;
        for (const socket of taken) begin(socket);
        if (waiting.size === 0) release?.();
      },
      over(predecessor) {
        isOver = true;
        openRest();
        if (predecessor === "handed over") inherited.clear(); // It has closed them by now, or is about to.
      },
    };
  }

  return {
    handover: {
      name: "the datagram sockets",
      outgoing,
      incoming,
      isListening: () => openSockets().length > 0,
    },
    async bind(socket, { port, host }) {
      if (adapter === undefined) {
        throw new TypeError(`bind: there are no datagram sockets here (${runtime})`);
      }
      const { key, inherited } = datagrams.place({ type: typeOf(socket), hostname: host, port });
      const bindable = adapter.bindable(socket, key, { port, host });
      datagrams.add(bindable);
      if (inherited === undefined) await bindable.bind();
      else await bindable.opened;
    },
  };
}
