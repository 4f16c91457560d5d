/**
 * Servers of node:net and all that is built on them, which a preload hands to the token: `listen` of every server is replaced. For the
 * program nothing changes: the same events, callbacks, errors and results, at the same times.
 */
import type { Server } from "node:net";
import type { AutoHost } from "../../core/auto.ts";
import { describeError } from "../../core/describe_error.ts";
import { isOpened, isOpening, markAnnounced, markGivenUp, markOpened, originalOf, replacing } from "../../core/marks.ts";
import type { BindOptions } from "../../core/token.ts";
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

/** Replaces `listen`. */
export function patchServers(prototype: ServerPrototype, host: AutoHost, patch: ServerPatch): void {
  const original = originalOf(prototype.listen);
  prototype.listen = replacing(original, function listen(this: Server, ...args: unknown[]): unknown {
    if (isOpening(this)) return original.apply(this, args);
    const request = readListenArguments(args, patch.pid);
    const { options } = request;
    if (options === undefined || patch.isExempt()) return original.apply(this, args);
    markAnnounced(this, false);
    markGivenUp(this, false);
    if (originalOf(this.close) !== this.close) this.close = originalOf(this.close);
    if (patch.takesOpened && options.path === undefined && host.opensItself) return openAtOnce(this, options, args);
    openByToken(this, options, request);
    return this;
  });

  /** A first generation opens its servers as it always did; the library learns of each right after. */
  function openAtOnce(server: Server, options: BindOptions, args: unknown[]): unknown {
    const result = original.apply(server, args);
    const events = markOpened(server);
    const stop = CONNECTIONS.map((event) => {
      const note = (first: object) => void events.push([event, first]);
      server.prependListener(event, note);
      return () => server.off(event, note);
    });
    const end = () => stop.forEach((each) => each());
    server.once("error", end);
    server.prependOnceListener("listening", () => {
      server.off("error", end);
      markAnnounced(server, true);
      // Not for one that only looks whether a port is free.
      setImmediate(() => {
        if (!server.listening || !isOpened(server)) return end();
        const token = host.begin();
        closeInAnyState(server, () => token.isCancelled);
        token.bind(server, options).catch((error) => {
          host.say(`the server at ${describe(options)} is not handed over: ${describeError(error)}`);
        }).finally(end);
      });
    });
    return result;
  }

  function openByToken(server: Server, options: BindOptions, { callback, signal }: ListenRequest): void {
    if (callback !== undefined) server.once("listening", callback);
    let isAnnounced = false;
    let emitted: unknown;
    let wasHeard = false;
    const onListening = () => void (isAnnounced = true);
    const onError = (error: unknown) => {
      emitted = error;
      wasHeard = server.rawListeners("error").length > 2; // Besides this one and that of the library, which waits for the server.
    };
    server.prependOnceListener("listening", onListening);
    server.prependListener("error", onError);
    const end = () => {
      server.off("listening", onListening);
      server.off("error", onError);
    };
    signal?.addEventListener("abort", () => server.close(), { once: true });
    const token = host.begin();
    token.bind(server, options).then(() => {
      end();
      closeInAnyState(server, () => token.isCancelled);
      markAnnounced(server, true);
      if (isAnnounced) return;
      // The predecessor's socket comes when this process is in charge. A server that starts another one first must not wait for that.
      Object.defineProperty(server, "listening", { value: true, configurable: true });
      server.emit("listening");
    }, (error) => {
      end();
      if (callback !== undefined) server.off("listening", callback);
      if (emitted !== error || !wasHeard) process.nextTick(() => server.emit("error", error));
    });
  }
}

/**
 * Lets the program close a server that does not listen: while it waits for the predecessor's socket, whose place another server can have
 * then, and when the drain has closed it, which is what the program's own shutdown wants.
 */
function closeInAnyState(server: Server, isCancelled: () => boolean): void {
  const { close } = server;
  server.close = replacing(close, (callback?: (error?: Error) => void) => {
    const isWaiting = Object.hasOwn(server, "listening");
    if ((server as { _handle?: unknown })._handle || !(isWaiting || isCancelled())) return close.call(server, callback);
    delete (server as { listening?: unknown }).listening;
    markGivenUp(server, true);
    process.nextTick(() => {
      callback?.();
      if (isWaiting) server.emit("close");
    });
    return server;
  });
}

function describe({ path, host, port }: BindOptions): string {
  return path ?? `${host ?? "*"}:${port}`;
}
