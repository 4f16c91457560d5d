/**
 * Sockets of node:dgram, which a preload hands to the token: `bind` of every socket is replaced.
 */
import type { Socket } from "node:dgram";
import type { AutoHost } from "../../src/core/auto.ts";
import { describeError } from "../../src/core/describe_error.ts";
import { isOpened, isOpening, markOpened, originalOf, replacing } from "../../src/core/marks.ts";
import type { BindableServer, BindOptions } from "../../src/core/token.ts";

/** The prototype whose `bind` is replaced. */
export interface DatagramPrototype {
  // Its forms are those of Socket.
  // deno-lint-ignore no-explicit-any
  bind(...args: any[]): unknown;
}

/**
 * Where a socket is bound; `undefined` where it is left alone: to a port that the kernel chooses,
 * or on another's socket.
 */
function placeOf([first, second]: readonly unknown[]): { port: number; host?: string } | undefined {
  const options = typeof first === "object" && first !== null
    ? first as Record<string, unknown>
    : { port: first, address: second };
  const { port, address } = options;
  if (
    "fd" in options || typeof port !== "number" || !Number.isInteger(port) || port <= 0 ||
    port >= 65_536
  ) return undefined;
  return { port, ...(typeof address === "string" && address !== "" && { host: address }) };
}

/** Replaces `bind`. */
export function patchDatagrams(
  prototype: DatagramPrototype,
  host: AutoHost,
  isExempt: () => boolean,
): void {
  const original = originalOf(prototype.bind);
  prototype.bind = replacing(original, function bind(this: Socket, ...args: unknown[]): unknown {
    const options = isOpening(this) ? undefined : placeOf(args);
    if (options === undefined || isExempt()) return original.apply(this, args);
    return host.opensItself ? openAtOnce(this, options, args) : openByToken(this, options, args);
  });

  function bindByToken(socket: Socket, options: BindOptions): Promise<void> {
    return host.begin().bind(socket as unknown as BindableServer, options);
  }

  /** As for servers: the library learns of it right after. */
  function openAtOnce(socket: Socket, options: BindOptions, args: unknown[]): unknown {
    const result = original.apply(socket, args);
    markOpened(socket);
    let isClosed = false;
    socket.once("close", () => void (isClosed = true));
    socket.prependOnceListener("listening", () => {
      host.begin();
      setTimeout(() => {
        if (isClosed || !isOpened(socket)) return;
        bindByToken(socket, options).catch((error) => {
          host.say(
            `the datagram socket at ${options.host ?? "*"}:${options.port} is not handed over: ${
              describeError(error)
            }`,
          );
        });
      });
    });
    return result;
  }

  function openByToken(socket: Socket, options: BindOptions, args: unknown[]): Socket {
    const callback = args.findLast((argument) => typeof argument === "function") as
      | (() => void)
      | undefined;
    if (callback !== undefined) socket.once("listening", callback);
    const { send } = socket;
    const sendLater = sendWhenOpen(socket);
    let wasHeard = false;
    // Besides this one and that of the library.
    const onError = () => void (wasHeard ||= socket.listenerCount("error") > 2);
    socket.prependListener("error", onError);
    bindByToken(socket, options).then(() => {
      socket.off("error", onError);
    }, (error) => {
      socket.off("error", onError);
      if (callback !== undefined) socket.off("listening", callback);
      if (!wasHeard) process.nextTick(() => socket.emit("error", error));
    }).finally(() => {
      if (socket.send === sendLater) socket.send = send;
    });
    return socket;
  }
}

/**
 * A socket that is not open yet would be bound to a port of the kernel's choice by what it sends.
 */
function sendWhenOpen(socket: Socket): Socket["send"] {
  const { send } = socket;
  const later = (...args: unknown[]) =>
    void socket.once("listening", () => Reflect.apply(send, socket, args));
  return socket.send = later as Socket["send"];
}
