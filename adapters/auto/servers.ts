/**
 * Servers of node:net and all that is built on them, which a preload hands to the token: `listen`
 * of every server is replaced. For the program nothing changes: the same events, callbacks, errors
 * and results, at the same times.
 */
import type { Server, Socket } from "node:net";
import type { AutoHost } from "../../src/core/auto.ts";
import { describeError } from "../../src/core/describe_error.ts";
import {
  beginWaiting,
  endWaiting,
  isOpened,
  isOpening,
  isWaiting,
  markAnnounced,
  markGivenUp,
  markOpened,
  markPrivate,
  originalOf,
  replacing,
} from "../../src/core/marks.ts";
import type { BindOptions } from "../../src/core/token.ts";
import { type ListenRequest, readListenArguments } from "./listen_arguments.ts";

/** A prototype whose `listen` is replaced. */
export interface ServerPrototype {
  // Its forms are those of net.Server.
  // deno-lint-ignore no-explicit-any
  listen(...args: any[]): unknown;
}

/** What differs between the runtimes. */
export interface ServerPatch {
  readonly pid: number;
  /** Whether servers of this process are left alone, such as those of node:cluster. */
  isExempt(): boolean;
  /** Whether a server that the program has opened can be handed over as it is. */
  readonly takesOpened: boolean;
}

/** The events of a server that opens connections. */
const CONNECTIONS = ["connection", "secureConnection", "session"];
/**
 * Those of a server of HTTP whose connections become others. Only where the application has a
 * listener: one of ours would be an answer.
 */
const UPGRADES = ["upgrade", "connect"];

/** Replaces `listen`. */
export function patchServers(prototype: ServerPrototype, host: AutoHost, patch: ServerPatch): void {
  const original = originalOf(prototype.listen);
  /** What ends the notes on servers that were opened. */
  const ends = new WeakMap<Server, () => void>();
  prototype.listen = replacing(
    original,
    function listen(this: Server, ...args: unknown[]): unknown {
      if (isOpening(this)) return original.apply(this, args);
      const request = readListenArguments(args, patch.pid);
      const { options } = request;
      if (options === undefined || patch.isExempt()) {
        if (request.isPrivate) this.prependOnceListener("listening", () => notePrivate(this));
        return original.apply(this, args);
      }
      ends.get(this)?.();
      markAnnounced(this, false);
      if (originalOf(this.close) !== this.close) this.close = originalOf(this.close);
      if (!patch.takesOpened || options.path !== undefined || !host.opensItself) {
        openByToken(host, this, options, request);
        return this;
      }
      const result = original.apply(this, args);
      ends.set(this, followOpened(host, this, options));
      return result;
    },
  );
}

/** Notes that a server is the process's own. */
function notePrivate(server: Server): void {
  const address = server.address();
  if (address !== null) markPrivate(typeof address === "string" ? address : address.port);
}

/** What happens to a server that was opened, until the library knows it. */
interface Notes {
  follow(events: readonly string[]): void;
  end(): void;
  /** Whether they have ended: the server was opened once more since. */
  readonly areOver: boolean;
}

/** Notes what happens to a server that was opened. */
function createNotes(server: Server): Notes {
  const notes = markOpened(server);
  const stop: (() => void)[] = [];
  let areOver = false;
  return {
    get areOver() {
      return areOver;
    },
    follow(events) {
      for (const event of events) {
        const note = (first: object, socket?: Socket) =>
          void notes.push([event, first, socket, socket?.bytesWritten]);
        server.prependListener(event, note);
        stop.push(() => server.off(event, note));
      }
    },
    end() {
      areOver = true;
      stop.forEach((each) => each());
    },
  };
}

/**
 * A first generation opens its servers as it always did; the library learns of each right after.
 * Returns what ends the notes on it. An error of the server has no listener of ours: one alone
 * would keep it from ending the program.
 */
function followOpened(host: AutoHost, server: Server, options: BindOptions): () => void {
  const opened = createNotes(server);
  const { follow, end } = opened;
  follow(CONNECTIONS);
  server.prependOnceListener("listening", () => {
    markAnnounced(server, true);
    follow(UPGRADES.filter((event) => server.listenerCount(event) > 0));
    const token = host.begin(); // Before anybody hears that it listens, and sends a signal.
    closeInAnyState(server, () => token.isCancelled);
    // Not one that only looks whether a port is free.
    setImmediate(() => {
      if (opened.areOver) return;
      if (!server.listening || !isOpened(server)) return end();
      token.bind(server, options).catch((error) => {
        host.say(`the server at ${describe(options)} is not handed over: ${describeError(error)}`);
      }).finally(end);
    });
  });
  return end;
}

function openByToken(
  host: AutoHost,
  server: Server,
  options: BindOptions,
  { callback, signal }: ListenRequest,
): void {
  if (callback !== undefined) server.once("listening", callback);
  let emitted: unknown;
  let wasHeard = false;
  const onError = (error: unknown) => {
    emitted = error;
    markGivenUp(server, true); // The program may try another port at once.
    // Besides this one. That of the library, which waits for the server, was called before.
    wasHeard = server.rawListeners("error").length > 1;
  };
  server.prependListener("error", onError);
  // By this function, when a unix socket has its name, and before the predecessor's socket has
  // come.
  markAnnounced(server, true);
  signal?.addEventListener("abort", () => server.close(), { once: true });
  const token = host.begin();
  token.bind(server, options).then(() => {
    server.off("error", onError);
    closeInAnyState(server, () => token.isCancelled);
    // That comes when this process is in charge. A server that starts another one first must not
    // wait for it.
    if (!server.listening) beginWaiting(server);
    if (options.path !== undefined) server.address = () => options.path as string;
    server.emit("listening");
  }, (error) => {
    server.off("error", onError);
    if (callback !== undefined) server.off("listening", callback);
    if (emitted !== error || !wasHeard) {
      process.nextTick(() => server.emit("error", asOfNode(error, options)));
    }
  });
}

/**
 * Lets the program close a server that does not listen: while it waits for the predecessor's
 * socket, whose place another server can have then, and when the drain has closed it, which is what
 * the program's own shutdown wants.
 */
function closeInAnyState(server: Server, isCancelled: () => boolean): void {
  const { close } = server;
  server.close = replacing(close, (callback?: (error?: Error) => void) => {
    const waits = isWaiting(server);
    if (!waits && !isCancelled()) return close.call(server, callback);
    endWaiting(server);
    markGivenUp(server, true);
    if (waits && callback !== undefined) server.once("close", callback);
    process.nextTick(() => waits ? server.emit("close") : callback?.());
    return server;
  });
}

/** The error of an address at which this process waits or listens already, as node:net has it. */
function asOfNode(error: unknown, options: BindOptions): unknown {
  if (!(error instanceof TypeError) || (error as { code?: unknown }).code !== "EADDRINUSE") {
    return error;
  }
  const { host: address, port } = options;
  const message = `listen EADDRINUSE: address already in use ${describe(options)}`;
  return Object.assign(new Error(message), {
    code: "EADDRINUSE",
    errno: -98,
    syscall: "listen",
    address,
    port,
  });
}

function describe({ path, host, port }: BindOptions): string {
  return path ?? `${host ?? "*"}:${port}`;
}
