import type { Clock } from "../../core/adapter.ts";
import { show } from "../../core/check.ts";
import { describeError } from "../../core/describe_error.ts";
import type { Files } from "../../core/files.ts";
import { nextCheck, pause } from "../../core/pause.ts";
import type { SocketAdapter } from "../../core/socket_adapter.ts";
import type { ProgramContext } from "../../reload/context.ts";
import type { Handover } from "../../reload/handover.ts";
import { createWarnOnce } from "../common.ts";
import { accessAt, placeSocket, setAccess, temporaryPathOf } from "./placement.ts";
import { IncomingUnix, OutgoingUnix } from "./handover.ts";

/** The path of a unix socket that this process serves, or is about to serve. */
export interface UnixSocket {
  readonly path: string;
  /** The name under which our socket is made, and which our server removes when it closes. */
  readonly temporaryPath: string;
  /** Whether our socket was made. */
  isBound: boolean;
  /** Whether our socket is at the path. */
  isPlaced: boolean;
  /** Resolves when it is, or when it will be as soon as this process is in charge. */
  placement: Promise<void>;
}

/** The longest path of a socket, in bytes, without its final NUL; unix(7). */
const MAX_PATH_BYTES = 107;

/**
 * The unix sockets of this process. It makes a socket under a temporary name and renames it to the
 * path. That replaces the predecessor's socket in one step, so that there is always one to connect
 * to; and the name that a server removes when it closes is the temporary one.
 */
export class UnixSockets {
  readonly handover: Handover = {
    name: "the unix sockets",
    outgoing: (reload) => new OutgoingUnix(this, reload),
    incoming: (reload) => new IncomingUnix(this, reload),
    isListening: () => this.sockets.size > 0,
  };
  readonly clock: Clock;
  readonly files: Files;
  readonly pid: number;
  /** By their paths. */
  readonly sockets: Map<string, UnixSocket> = new Map();
  /** Resolves when it is known which paths the predecessor serves. */
  readonly known: PromiseWithResolvers<void> = Promise.withResolvers();
  /** The paths that the predecessor serves and has not handed over. */
  offered: ReadonlySet<string> = new Set();
  /** Called when a socket was made for such a path. */
  onBound: (socket: UnixSocket) => void = () => {};
  readonly #program: ProgramContext;
  readonly #adapter: SocketAdapter;
  readonly #warnOnce: (message: string) => void;

  constructor(adapter: SocketAdapter, program: ProgramContext) {
    this.clock = program.clock;
    this.files = adapter.files();
    this.pid = program.pid;
    this.#program = program;
    this.#adapter = adapter;
    this.#warnOnce = createWarnOnce(program.warn);
    if (!program.hasPredecessor) this.known.resolve();
  }

  /**
   * Returns the name to listen under instead of the path. The socket is renamed to the path: at
   * once, or when the predecessor that serves the path hands over.
   */
  async reserve(path: string): Promise<string> {
    const { files, sockets } = this;
    const temporaryPath = this.#check(path);
    const release = this.clock.hold();
    await this.known.promise;
    release();
    if (sockets.has(path)) throw new TypeError(`path: ${path} is in use by this process already`);
    const kind = files.kind(path);
    if (kind === "other") {
      throw new TypeError(`path: the file at ${path} is not a socket; it is not replaced`);
    }
    if (!this.offered.has(path) && kind === "socket" && await this.#adapter.isServed(path)) {
      const error = new Error(`EADDRINUSE: another program serves ${path}`);
      throw Object.assign(error, { code: "EADDRINUSE" });
    }
    files.remove(temporaryPath); // Left behind by a killed process that had this pid.
    const placement = Promise.resolve();
    const socket: UnixSocket = { path, temporaryPath, isBound: false, isPlaced: false, placement };
    sockets.set(path, socket);
    socket.placement = this.#follow(socket);
    socket.placement.catch((error) => {
      const why = describeError(error);
      this.#program.warn(`the socket of ${path} could not be moved to its path: ${why}`);
    });
    return temporaryPath;
  }

  /** Whether a name was given out to listen under. */
  has(name: string): boolean {
    return [...this.sockets.values()].some(({ temporaryPath }) => temporaryPath === name);
  }

  /** Resolves when the socket is at its path, or will be as soon as this process is in charge. */
  async placed(path: string): Promise<void> {
    await this.sockets.get(path)?.placement;
  }

  /** Puts a socket at a path, as {@linkcode placeSocket} does. */
  place(temporaryPath: string, path: string, keptAs?: string): void {
    const warning = placeSocket(this.files, temporaryPath, path, keptAs);
    if (warning !== undefined) this.#warnOnce(warning);
  }

  /** Throws where no socket can be made for a path. Returns its temporary path. */
  #check(path: string): string {
    if (typeof path !== "string" || path === "") {
      throw new TypeError(`path: it must be a string, not ${show(path)}`);
    }
    const temporaryPath = temporaryPathOf(path, this.pid);
    if (new TextEncoder().encode(temporaryPath).length <= MAX_PATH_BYTES) return temporaryPath;
    throw new TypeError(
      `path: ${path} is too long: with ".${this.pid}" appended it must not have more than ` +
        `${MAX_PATH_BYTES} bytes`,
    );
  }

  /** Waits until the application has made the socket, and puts it at its path. */
  async #follow(socket: UnixSocket): Promise<void> {
    const { clock, files } = this;
    const { path, temporaryPath } = socket;
    for (const begun = clock.now(); files.kind(temporaryPath) !== "socket";) {
      if (this.#program.token.isCancelled) return;
      await pause(clock, nextCheck(clock, begun));
    }
    socket.isBound = true;
    if (this.offered.has(path)) {
      // Also at once: who may connect to the temporary name is served.
      const access = accessAt(files, path);
      if (access !== undefined) setAccess(files, temporaryPath, access);
      return this.onBound(socket);
    }
    this.place(temporaryPath, path);
    socket.isPlaced = true;
  }
}
