/** What the application has bound with `token.bind()`, and how it ends. */
import { isGivenUp, markGivenUp } from "../core/marks.ts";
import { pause } from "../core/pause.ts";
import type { Listener, SocketAdapter } from "../core/socket_adapter.ts";
import type { BindableServer, BindOptions } from "../core/token.ts";
import { createDrain, type Drain } from "../drain/http1.ts";
import type { HttpSocket } from "../drain/keep_alive.ts";
import type { ProgramContext } from "../reload/context.ts";
import {
  checkBindOptions,
  checkDatagramOptions,
  checkServer,
  isDatagramSocket,
} from "./bind_options.ts";
import { MAX_ACCEPT_TURNS, nameOf } from "./common.ts";
import { Datagrams } from "./datagrams/datagrams.ts";
import { ListeningSockets } from "./listening/listening_sockets.ts";
import { UnixSockets } from "./unix/unix_sockets.ts";

/**
 * For how many turns of the event loop no connection must have come before a server is closed that
 * nobody reaches any more. The kernel resets those that wait in a socket which is closed.
 */
const QUIET_TURNS = 10;
/** The shortest time of such a turn, in milliseconds. */
const TURN_MS = 2;

/** A server whose connections can move. */
export interface HttpServer {
  /** Names it in both processes. */
  readonly key: string;
  readonly server: BindableServer & { keepAliveTimeout?: number; keepAliveTimeoutBuffer?: number };
  /** Its connections, as they are at this moment. */
  readonly connections: readonly HttpSocket[];
}

/** How connections are finished, in milliseconds. */
export interface Graces {
  /** How long an idle connection is left open for one more request. */
  readonly idle: number;
  /** The same where no new process is there, or needs it. */
  readonly short: number;
  /** When the remaining connections are cut. */
  readonly timeout: number;
}

/** How servers are finished. */
export interface Finish extends Graces {
  /** Whether a successor has taken over. */
  readonly isReplaced: boolean;
  /** Resolves when no more connections come from the predecessor. */
  readonly arrived: Promise<void>;
}

/** A bound server, and what finishes its connections. */
interface Binding {
  readonly name: string;
  readonly drain: Drain;
  readonly moveIdle: boolean;
  /** Whether it was closed. */
  isClosed: boolean;
}

/** The servers and datagram sockets that were bound. */
export class Bindings {
  readonly listening: ListeningSockets;
  readonly unix: UnixSockets;
  readonly datagrams: Datagrams;
  readonly #adapter: SocketAdapter;
  readonly #program: ProgramContext;
  /** Whether the ports are shared with other instances. */
  readonly #reusePort: boolean;
  readonly #drains = new Map<BindableServer, Binding>();
  readonly #atPaths = new Map<string, { server: BindableServer; listener: Listener }>();
  readonly #begun: Promise<void>[] = [];

  constructor(adapter: SocketAdapter, program: ProgramContext, reusePort: boolean) {
    this.#adapter = adapter;
    this.#program = program;
    this.#reusePort = reusePort;
    this.listening = new ListeningSockets(adapter, program);
    this.unix = new UnixSockets(adapter, program);
    this.datagrams = new Datagrams(adapter.datagrams, program);
  }

  /** How many servers were bound. */
  get size(): number {
    return this.#drains.size;
  }

  /** As {@linkcode Token.bind}. */
  async bind(server: BindableServer, options: BindOptions): Promise<void> {
    const binding = this.#bind(server, options);
    this.#begun.push(binding.catch(() => {}));
    await binding;
  }

  /** Resolves when every server listens that has begun to. */
  settled(): Promise<unknown> {
    return Promise.all(this.#begun);
  }

  /** The servers whose idle connections move, by keys that are the same in every generation. */
  movable(): HttpServer[] {
    return [...this.listening.servers, ...this.#atPaths].flatMap(([key, { server }]) => {
      const { drain, moveIdle } = this.#drains.get(server) ?? {};
      return drain !== undefined && moveIdle ? [{ key, server, connections: drain.plain() }] : [];
    });
  }

  /**
   * Resolves when the connections that wait in the sockets were accepted, also in a process that
   * gets little time: when none has come for some turns of its event loop.
   */
  async acceptLast(): Promise<void> {
    const { clock } = this.#program;
    const accepted = () =>
      [...this.#drains.values()].reduce((sum, { drain }) => sum + drain.accepted, 0);
    let [before, quiet] = [accepted(), 0];
    for (let turn = 0; turn < MAX_ACCEPT_TURNS && quiet < QUIET_TURNS; turn++) {
      await pause(clock, TURN_MS);
      quiet = accepted() === before ? quiet + 1 : 0;
      before = accepted();
    }
  }

  /** Stops accepting, and finishes all connections, each server as a task of the token. */
  finish({ isReplaced, arrived, idle, short, timeout }: Finish): void {
    const { emit, token } = this.#program;
    // A successor accepts the connections that wait in a socket, but for those of a path: there it
    // has a socket of its own.
    const isLast = isReplaced ? this.#atPaths.size > 0 : this.size > 0;
    const closed = arrived.then(() => isLast ? this.acceptLast() : undefined).then(() => {
      this.listening.close();
      for (const { listener } of this.#atPaths.values()) listener.close();
    });
    const settings = { idleGrace: isReplaced ? idle : short, timeout };
    for (const [server, { name: asked, drain }] of this.#drains) {
      const name = nameOf(asked, (server.address() as { port?: unknown } | null)?.port);
      const drained = closed.then(() => drain.finish(settings)).then((connections) => {
        if (connections === 0) return;
        emit({ type: "drain-cut", server: name, connections, milliseconds: timeout });
      });
      token.track(drained, { name: `the connections of ${name}` });
    }
  }

  async #bind(server: BindableServer, options: BindOptions): Promise<void> {
    const datagramAddress = isDatagramSocket(server) ? checkDatagramOptions(options) : undefined;
    if (datagramAddress === undefined) checkServer(server);
    const port = checkBindOptions(options);
    if (this.#program.token.isCancelled) {
      throw new TypeError("bind: this process is cancelled; it does not begin to listen any more");
    }
    if (datagramAddress !== undefined) return await this.datagrams.bind(server, datagramAddress);
    const known = this.#drains.get(server);
    if (known?.isClosed === false && !isGivenUp(server)) {
      throw new TypeError(
        "bind: this server is bound already; make a new one, with the same handlers",
      );
    }
    const { clock } = this.#program;
    const { moveIdle = true } = options;
    const drain = known?.drain ?? createDrain(server, clock, this.#adapter.http1);
    const binding = { name: describe(options), drain, moveIdle, isClosed: false };
    this.#drains.set(server, binding);
    markGivenUp(server, false);
    if (known === undefined) server.prependListener("close", () => this.#closed(server));
    try {
      await this.#listen(server, options, port);
    } catch (error) {
      // The application may have tried again when it heard of the error.
      if (this.#drains.get(server) === binding) this.#drains.delete(server);
      throw error;
    }
  }

  /** A server was closed. The application may let it listen again. */
  #closed(server: BindableServer): void {
    const binding = this.#drains.get(server);
    if (binding !== undefined) binding.isClosed = true;
    this.listening.forget(server);
  }

  async #listen(server: BindableServer, all: BindOptions, port: number | undefined): Promise<void> {
    const { name, path, port: _, moveIdle: __, ...given } = all;
    const options = this.#reusePort ? { reusePort: true, ...given } : given;
    if (path === undefined) {
      return await this.listening.bind(server, { name, options: { ...options, port } });
    }
    if (this.listening.isActivated(path)) {
      return await this.listening.bind(server, { name, options: { ...options, path } });
    }
    const temporaryPath = await this.unix.reserve(path);
    const source = { options: { ...options, path: temporaryPath } };
    this.#atPaths.set(path, { server, listener: await this.#adapter.listen(server, source) });
    await this.unix.placed(path);
  }
}

function describe({ path, host, port, name }: BindOptions): string {
  return path ?? (port === undefined ? `socket ${name}` : `${host ?? "*"}:${port}`);
}
