/** Listening sockets of Deno.listen and Deno.listenTls that are handed over. */
import { originalOf } from "../../src/core/marks.ts";
import type { NativeHost, NativeListen, ServeFunction } from "../../src/core/native.ts";
import { choosePlace } from "../shared/native_activation.ts";
import { rawServer } from "../shared/raw_server.ts";
import { publicAddress, showAddress } from "./native.ts";
import type { DenoNamespace } from "./namespace.ts";

/** The options that are looked at. */
interface Options {
  readonly transport?: unknown;
  readonly port?: unknown;
  readonly hostname?: unknown;
  readonly path?: unknown;
}

/** A listening socket of Deno's. */
interface Listener {
  readonly addr: Readonly<Record<string, unknown>>;
  accept(): Promise<unknown>;
  /** What a `for await` calls. It calls `accept`. */
  next(this: Pick<Listener, "accept">): Promise<unknown>;
  close(): void;
}

function open(
  listen: ServeFunction,
  host: NativeHost,
  options: Options,
  reusePort: boolean,
): Listener {
  const path = typeof options.path === "string" ? options.path : undefined;
  const { port, hostname } = options;
  const { placement, where } = choosePlace(host, { path, port, hostname }, "path", reusePort);
  const { inherited, temporaryPath } = placement;
  const listener: Listener = listen({ ...options, ...where });
  const own = temporaryPath ?? Number(listener.addr.port);
  const reported = inherited?.reported ?? { ...listener.addr, ...publicAddress(placement, path) };
  showAddress(listener, reported);
  const define = (name: PropertyKey, value: unknown) =>
    Object.defineProperty(listener, name, { configurable: true, value });
  const { next } = listener;
  const accept = listener.accept.bind(listener);
  const originalClose = listener.close.bind(listener);
  let isOpen = true;
  let hasEnded = false;
  const close = () => {
    host.remove(adopted);
    if (isOpen) originalClose();
    isOpen = false;
  };
  define("close", close);
  define(Symbol.dispose, close);
  // A program that does not expect the end would end with the error. A `for await` just ends.
  define(
    "accept",
    () => accept().catch((error) => hasEnded ? new Promise(() => {}) : Promise.reject(error)),
  );
  define("next", () => next.call({ accept }));
  const adopted = rawServer(placement, { path, own, reported }, () => {
    hasEnded = true;
    close();
  });
  host.add(adopted);
  return listener;
}

/**
 * Deno.listen and Deno.listenTls, which the token can adopt.
 *
 * @param isShared Whether several processes have sockets at an address.
 */
export function denoListen(deno: DenoNamespace, isShared: boolean): NativeListen {
  return {
    name: "Deno.listen",
    is: (listen) =>
      [deno.listen, deno.listenTls].some((own) => originalOf(listen) === originalOf(own)),
    adopt: (given, host) => {
      const listen = originalOf(given);
      return (options: Options) => {
        const { transport = "tcp" } = options ?? {};
        // Deno says what is wrong, and opens by itself what is no address of a network: vsock.
        return transport === "tcp" || transport === "unix"
          ? open(listen, host, options, isShared)
          : listen(options);
      };
    },
  };
}
