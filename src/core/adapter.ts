import type { NativeDatagrams } from "./datagrams.ts";
import type { NativeListen, NativeServe } from "./native.ts";
import type { BasicServiceAdapter, ServiceAdapter, Supervisor } from "./service_adapter.ts";
import type { SocketAdapter } from "./socket_adapter.ts";
import type { CancelReason } from "./token.ts";

/** How a process ended: an exit code, or the signal that ended it. */
export interface ExitStatus {
  /** The exit code, `null` when a signal ended the process. */
  code: number | null;
  /** The signal that ended the process, or `null`. */
  signal: string | null;
}

/** The private connection between an old process and a new one. Messages are JSON-like. */
export interface Channel {
  /**
   * Whether sockets can be sent: listening ones and open connections. Not on Deno on Windows, nor
   * where Deno's processes meet at a path.
   */
  readonly sendsHandles: boolean;
  /** Whether a socket gets lost that is read in one piece with another message, as on Deno 2.9. */
  readonly handlesTravelAlone: boolean;
  /**
   * Resolves once the message has left this process; rejects when the channel is closed.
   *
   * @param handle A socket to send along: what {@linkcode Listener.handle},
   * {@linkcode Listener.rawHandle} or {@linkcode ConnectionAdapter.handle} is. A listening one
   * stays open in this process.
   */
  send(message: unknown, handle?: unknown): Promise<void>;
  /** Sets the one receiver. Messages that came earlier are given to it first. */
  onMessage(receive: (message: unknown, handle?: unknown) => void): void;
  /** Calls back once when the other process is gone, also when it was gone before. */
  onClose(closed: () => void): void;
}

/**
 * Passes descriptors to the other process of a reload, besides the channel. Only Bun and Deno on
 * Linux: Node cannot call the C library.
 */
export interface DescriptorChannel {
  /**
   * Sends descriptors, which stay open in this process too. Returns the number under which the
   * other process receives them, to be sent to it over the channel; `undefined` where they cannot
   * be sent now, or the other process is gone.
   */
  send(fds: readonly number[]): number | undefined;
  /**
   * The descriptors that the other process has sent under a number; `undefined` where they did not
   * come, above all because this process has none left. They belong to the caller.
   */
  receive(number: number): readonly number[] | undefined;
  /** Whether this process may open so many descriptors more, and some are left to the program. */
  hasRoom(count: number): boolean;
  /** Closes descriptors that were received and are not wanted. */
  discard(fds: readonly number[]): void;
  /** Closes it, and all that waits in it, also on its way to the other process. */
  close(): void;
}

/** A new process of the program, seen from the process that started it. */
export interface StartedProcess {
  /** Its process id. */
  readonly pid: number;
  /** The channel to it. */
  readonly channel: Channel;
  /** Passes descriptors to it, where the start asked for that. Bun and Deno on Linux. */
  readonly descriptors?: DescriptorChannel | undefined;
  /** Resolves when the process has ended and been reaped. Never rejects. */
  readonly exited: Promise<ExitStatus>;
  /**
   * Ends the process and everything in its process group at once (SIGKILL). Harmless when it is
   * gone.
   */
  kill(): void;
  /**
   * Makes PID 1 its parent a moment later. From then on its exit status is not known, only that it
   * has closed the channel. Resolves with whether that was possible: only a process that was
   * started `disowned` has such a parent.
   */
  disown(): Promise<boolean>;
  /** From now on neither the process nor the channel keeps this process alive. */
  release(): void;
}

/** The old process, seen from the new one. */
export interface Predecessor {
  /** The generation of *this* process, at least 1. */
  readonly generation: number;
  /** The channel to the old process. It never keeps this process alive. */
  readonly channel: Channel;
}

/** What to start. */
export interface StartRequest {
  /** Starts this instead of the same program: the executable, then its arguments. */
  command?: readonly string[];
  /** Variables to set for the new process, or, where `undefined`, to remove. */
  env: Readonly<Record<string, string | undefined>>;
  /** The generation of the new process. */
  generation: number;
  /**
   * `plain`: as a child of this process. `disowned`: so that PID 1 can become its parent while this
   * process lives. `guarded`: below a guard that reports to `reload-self run` how it ends, also
   * when this process is gone.
   */
  how: "plain" | "disowned" | "guarded";
  /** The `reload-self run` that follows the new process. */
  supervisor?: Supervisor | undefined;
  /** Whether listening sockets will be sent to it. */
  sendsSockets: boolean;
  /**
   * Whether descriptors will be sent to it, besides the channel. They are where the C library can
   * be called.
   */
  sendsDescriptors: boolean;
  /**
   * The sockets of this process that the new one has to know when it opens its own, for the
   * `nativeOffer` of its adapter.
   */
  native: string | undefined;
  /** Fires when the new process is not wanted any more. */
  signal: AbortSignal;
}

/** Time, and what keeps a process alive. */
export interface Clock {
  /** A time in milliseconds, of which only differences have a meaning. */
  now(): number;
  /**
   * Calls back once after `milliseconds`; the timer keeps the process alive. Returns a function
   * that stops it.
   */
  timer(milliseconds: number, callback: () => void): () => void;
  /** Keeps this process alive until the returned function is called. */
  hold(): () => void;
}

/** A server of the runtime's own, as its handlers see it. */
export interface NativeServerView {
  /** How many requests and WebSockets it has. */
  readonly pending: number;
  /** Closes all its connections. */
  cut(): void;
}

/**
 * What a runtime shows of the requests of its own servers: of each response, or of a whole server.
 */
export interface FetchAdapter {
  /**
   * Whether the body of a response is a stream of the application's, which may have no end. Deno:
   * its servers do not tell what they still send.
   */
  hasStream?(response: Response): boolean;
  /**
   * The server that calls a handler, by the second argument of the call. Bun: Deno gives its
   * handlers no server.
   */
  server?(more: unknown): NativeServerView | undefined;
}

/** The handlers of signals that are not this library's. */
export interface OtherHandlers {
  /**
   * How many a signal has; `undefined` where that is not known: Deno shows only those of
   * `process.on()`.
   */
  count(signal: string): number | undefined;
  /**
   * Whether a signal has one. Asked right after this library's subscription to it has ended.
   * `undefined` where that is not known: on a Deno without the insides of version 2.9.
   */
  isHandled(signal: string): boolean | undefined;
  /** Ends this process as a signal does that nobody handles. Asked where `isHandled` is `false`. */
  raise(signal: string): void;
}

/** The functions of a runtime that open servers and datagram sockets of its own. */
export interface NativeAdapter {
  /** Deno.serve, Bun.serve. */
  readonly serve: NativeServe;
  /** Deno.listen, Bun.listen. */
  readonly listen: NativeListen;
  /** Deno.listenDatagram, Bun.udpSocket. */
  readonly datagrams: NativeDatagrams;
}

/**
 * The threads of a process that serve the same addresses, each with a server of its own. One of
 * them reloads for all. Only Deno: `deno serve --parallel`.
 */
export interface ThreadGroup {
  /** Ends the work of the other threads. Resolves when it is done. In the thread that reloads. */
  end?(reason: CancelReason): Promise<void>;
  /**
   * Says that this thread works.
   *
   * @param finish Ends its work: the process is replaced, or shut down. Resolves when it is done.
   */
  follow?(finish: (reason: CancelReason) => Promise<unknown>): void;
}

/** What a program needs of a runtime when it starts. */
export interface BasicAdapter extends Clock {
  /** The name for messages: "Deno", "Bun", "Node". */
  readonly runtime: string;
  /** This process. */
  readonly pid: number;
  /**
   * Whether there are signals and processes at all. When `false`, neither `onSignal` nor `start` is
   * called.
   */
  readonly canReload: boolean;
  /** The signals that a program can handle on this platform, and their numbers. */
  readonly signals: Readonly<Record<string, number>>;
  /** The signals that reload by default: SIGHUP, on Windows SIGBREAK (CTRL_BREAK). */
  readonly reloadSignals: readonly string[];
  /** The signals that shut down by default: SIGINT and SIGTERM, on Windows SIGINT. */
  readonly shutdownSignals: readonly string[];
  /**
   * Subscribes to a signal; the subscription does not keep the process alive. Returns a function
   * that ends it.
   */
  onSignal(signal: string, handler: () => void): () => void;
  /**
   * The handlers of signals that are not this library's. All runtimes have it; an adapter for tests
   * need not.
   */
  readonly otherHandlers?: OtherHandlers | undefined;
  /** The process that started this one as its successor, if there is one: the same at each call. */
  predecessor(): Predecessor | undefined;
  /** Ends this process at once. */
  exit(code: number): void;
  /**
   * Runs what may write to stdout or stderr: that nobody reads them any more does not end the
   * process. Absent where a runtime does not end at that.
   */
  writing?(write: () => void): void;
  /** The requests of the runtime's own servers. Node has none. */
  readonly fetch?: FetchAdapter | undefined;
  /** What a service needs at once. Not in worker threads, which are not reloaded. */
  readonly service?: BasicServiceAdapter | undefined;
  /** What opens servers and datagram sockets of the runtime's own. Node has none. */
  readonly native?: NativeAdapter | undefined;
  /**
   * The sockets of the predecessor that it does not send as handles; see src/protocol/handshake.ts.
   * In a successor.
   */
  readonly nativeOffer?: string | undefined;
  /** The other threads of the process. */
  readonly threads?: ThreadGroup | undefined;
}

/**
 * What the library needs of a runtime. There is an implementation each for Deno, Bun and Node.
 * Inject your own with `listen({ adapter })`, for example to test a program without processes.
 */
export interface Adapter extends BasicAdapter {
  /**
   * Starts this program again, detached. Rejects, preferably with a `ReloadError`, when that is not
   * possible.
   */
  start(request: StartRequest): Promise<StartedProcess>;
  /**
   * Passes descriptors from the predecessor, where it can send some. Called once. Bun and Deno on
   * Linux.
   */
  inheritedDescriptors?(): DescriptorChannel | undefined;
  /**
   * Loads the modules that `start` needs. Called when the reload that this process came from is
   * over: it will probably reload again. All runtimes have it; an adapter for tests need not.
   */
  warmUp?(): void;
  /** Listening sockets. Without it a program reloads, but hands no socket over. */
  readonly sockets?: SocketAdapter;
  /** What a service needs: files, other processes. Not in worker threads. */
  readonly service?: ServiceAdapter | undefined;
}

/** The part of an adapter that a start has to wait for. */
export interface StartAdapter extends BasicAdapter {
  /** Whether this process was started as a successor. */
  readonly isSuccessor: boolean;
  /** Loads the rest. */
  loadRest(): Promise<Adapter>;
}
