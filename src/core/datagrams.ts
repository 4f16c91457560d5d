/**
 * Datagram sockets: node:dgram, Bun.udpSocket, Deno.listenDatagram. One socket, with one queue,
 * passes from process to process.
 */
import type { InheritedAddress, ServeFunction } from "./native.ts";
import type { SharedSocket } from "./shared_socket.ts";

/**
 * The address of a datagram socket, as the application gives it. What it leaves out is the same in
 * every generation.
 */
export interface DatagramAddress {
  /** Tells apart sockets that can have the same port: `udp4` and `udp6`. */
  readonly type: string;
  /** The address or name of a network interface. */
  readonly hostname: unknown;
  /** The port; 0 where the kernel chooses it. */
  readonly port: unknown;
  /** What it is connected to. */
  readonly peer?: string | undefined;
}

/** A datagram socket of the application's. */
export interface DatagramSocket {
  /** Names it in every generation. */
  readonly key: string;
  /** Whether the application or the library has closed it. */
  readonly isClosed: boolean;
  /** Resolves when it is open, on the socket that it is to have. Rejects when that fails. */
  readonly opened: Promise<unknown>;
  /** Its address once it is open, in the form of the runtime. */
  reported(): Readonly<Record<string, unknown>>;
  /**
   * The application is told that nothing more is received. It can send until the socket is closed.
   * Only where it asks for each datagram.
   */
  end?(): void;
  /** It is not opened: `opened` and the call of the application fail with this error. */
  fail(error: unknown): void;
  /** Closes it, if it is open. */
  close(): void;
}

/** The datagram sockets of a process, as the functions see them that open one. */
export interface DatagramHost {
  /** Names a socket, and finds the predecessor's of that name, which it is opened on. */
  place(
    asked: DatagramAddress,
  ): { readonly key: string; readonly inherited: InheritedAddress | undefined };
  /** Takes in a socket that was opened, or waits for that of the predecessor. */
  add(socket: DatagramSocket): void;
}

/** The function of a runtime that opens datagram sockets. */
export interface NativeDatagrams {
  /** For messages: `Bun.udpSocket`. */
  readonly name: string;
  /** Whether this is the function. */
  is(open: unknown): boolean;
  /** Returns a function of the same type. What it opens is known to the host. */
  adopt(open: ServeFunction, host: DatagramHost): ServeFunction;
}

/** How datagram sockets pass to another process. */
export interface DatagramAdapter {
  /** Whether what another process gets are handles. */
  readonly sendsHandles: boolean;
  /** Why they cannot, with what to do about it; `undefined` where they can. */
  refusal(): string | undefined;
  /** A socket of node:dgram that is to be opened. */
  bindable(
    socket: unknown,
    key: string,
    where: { port: number; host: string | undefined },
  ): BindableDatagrams;
  /** What another process gets; `undefined` where it cannot be told. */
  share(socket: DatagramSocket): SharedSocket | undefined;
  /** Where it is bound, in a form that `openAnew` understands. */
  place(socket: DatagramSocket): unknown;
  /** Opens a socket on that of the predecessor. Nothing is read from it before `resume`. */
  open(socket: DatagramSocket, shared: SharedSocket): void;
  /**
   * Opens a socket at the address of the predecessor's, which is gone. Rejects with EADDRINUSE
   * while the kernel has not closed that one.
   */
  openAnew(socket: DatagramSocket, inherited: InheritedAddress): Promise<void>;
  /** Closes what came and is not wanted. */
  discard(shared: SharedSocket): void;
  /**
   * Reads nothing more: what comes waits. The socket can send. Returns why that is not possible.
   */
  suspend(socket: DatagramSocket): string | undefined;
  /** Reads again, first what has waited. Returns why that is not possible. */
  resume(socket: DatagramSocket): string | undefined;
}

/** A socket of node:dgram. */
export interface BindableDatagrams extends DatagramSocket {
  /** Opens it as the application has asked for. */
  bind(): Promise<void>;
}
