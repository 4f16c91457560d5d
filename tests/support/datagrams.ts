/** Datagram sockets of a simulated machine. */
import { EventEmitter } from "node:events";
import type {
  BindableDatagrams,
  DatagramAdapter,
  DatagramSocket,
} from "../../src/core/datagrams.ts";
import type { SharedSocket } from "../../src/core/shared_socket.ts";
import type { BindableServer } from "../../src/core/token.ts";

/** A socket that looks like one of node:dgram. */
export function createDatagramSocket(): BindableServer {
  return Object.assign(new EventEmitter(), {
    type: "udp4",
    address: () => null,
    bind() {},
    send() {},
    setBroadcast() {},
  });
}

/** A datagram socket of the kernel. */
interface KernelSocket {
  readonly port: number;
  /** The processes that have it open, and those of them that read from it. */
  readonly holders: Set<number>;
  readonly readers: Set<number>;
}

/** The datagram sockets of a machine. */
export interface SimulatedDatagrams {
  adapter(pid: number): DatagramAdapter;
  /** A process has ended. */
  end(pid: number): void;
  /** The processes that have the socket of a port, and those that read from it. */
  at(port: number): { holders: number[]; readers: number[] };
}

/** None yet. */
export function createSimulatedDatagrams(): SimulatedDatagrams {
  let sockets: KernelSocket[] = [];

  function tidy(): void {
    sockets = sockets.filter(({ holders }) => holders.size > 0);
  }

  function make(port: number, pid: number): KernelSocket {
    if (sockets.some((socket) => socket.port === port)) {
      throw Object.assign(new Error(`EADDRINUSE: ${port}`), { code: "EADDRINUSE" });
    }
    const socket = { port, holders: new Set([pid]), readers: new Set([pid]) };
    sockets.push(socket);
    return socket;
  }

  function adapter(pid: number): DatagramAdapter {
    const opened = new Map<DatagramSocket, PromiseWithResolvers<void>>();
    const below = new Map<DatagramSocket, KernelSocket>();
    const open = (one: DatagramSocket, socket: KernelSocket) => {
      below.set(one, socket);
      opened.get(one)?.resolve();
    };
    const close = (one: DatagramSocket) => {
      const socket = below.get(one);
      socket?.holders.delete(pid);
      socket?.readers.delete(pid);
      tidy();
    };
    return {
      sendsHandles: true,
      refusal: () => undefined,
      bindable(_, key, { port }) {
        let isClosed = false;
        const ready = Promise.withResolvers<void>();
        ready.promise.catch(() => {});
        const one: BindableDatagrams = {
          key,
          opened: ready.promise,
          get isClosed() {
            return isClosed;
          },
          reported: () => ({ port: below.get(one)?.port }),
          async bind() {
            await Promise.resolve();
            open(one, make(port, pid));
          },
          fail: ready.reject,
          close() {
            isClosed = true;
            close(one);
          },
        };
        opened.set(one, ready);
        return one;
      },
      share: (one) => ({ handle: below.get(one) }),
      place: () => undefined,
      open(one, shared) {
        const { handle: socket } = shared as { handle: KernelSocket };
        socket.holders.add(pid);
        // It was on its way when its sender died.
        if (!sockets.includes(socket)) sockets.push(socket);
        open(one, socket);
      },
      async openAnew(one, { reported }) {
        await Promise.resolve();
        open(one, make(Number(reported.port), pid));
      },
      discard: (_: SharedSocket) => {},
      suspend: (one) => void below.get(one)?.readers.delete(pid),
      resume: (one) => void below.get(one)?.readers.add(pid),
    };
  }

  return {
    adapter,
    end(pid) {
      for (const socket of sockets) {
        socket.holders.delete(pid);
        socket.readers.delete(pid);
      }
      tidy();
    },
    at(port) {
      const found = sockets.find((socket) => socket.port === port);
      return { holders: [...found?.holders ?? []], readers: [...found?.readers ?? []] };
    },
  };
}
