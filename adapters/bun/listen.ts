/** Listening sockets of Bun.listen that are handed over. */
import { originalOf } from "../../src/core/marks.ts";
import type { NativeHost, NativeListen, ServeFunction } from "../../src/core/native.ts";
import { choosePlace } from "../shared/native_activation.ts";
import { rawServer } from "../shared/raw_server.ts";

/** The options that are looked at. */
interface Options {
  readonly port?: unknown;
  readonly hostname?: unknown;
  readonly unix?: unknown;
}

/** A listening socket of Bun's. */
interface Listener {
  readonly port?: number;
  readonly hostname?: string;
  stop(closeActive?: boolean): void;
}

function open(
  listen: ServeFunction,
  host: NativeHost,
  options: Options,
  { bun, reusePort }: { bun: object; reusePort: boolean },
): Listener {
  const path = typeof options.unix === "string" && options.unix !== "" ? options.unix : undefined;
  const { port, hostname } = options;
  const { placement, where } = choosePlace(host, { path, port, hostname }, "unix", reusePort);
  const { inherited, activated, temporaryPath } = placement;
  const listener: Listener = listen.call(bun, { ...options, ...where });
  const define = (name: PropertyKey, value: unknown) =>
    Object.defineProperty(listener, name, { configurable: true, enumerable: true, value });
  const own = temporaryPath ?? listener.port ?? 0;
  const reported = inherited?.reported ?? (path !== undefined ? { unix: path } : {
    hostname: activated?.hostname ?? listener.hostname,
    port: activated?.port ?? listener.port,
  });
  // Bun asks the kernel for the port, which is 0 when the socket was taken away.
  for (const [name, value] of Object.entries(reported)) define(name, value);
  const originalStop = listener.stop.bind(listener);
  const stop = (closeActive?: boolean) => {
    host.remove(adopted);
    return originalStop(closeActive);
  };
  define("stop", stop);
  define(Symbol.dispose, () => void stop(true));
  const adopted = rawServer(placement, { path, own, reported }, () => stop());
  host.add(adopted);
  return listener;
}

/**
 * Bun.listen, which the token can adopt.
 *
 * @param reusePort Whether several processes have sockets at an address.
 */
export function bunListen(bun: { readonly listen: unknown }, reusePort: boolean): NativeListen {
  return {
    name: "Bun.listen",
    is: (listen) => originalOf(listen) === originalOf(bun.listen),
    adopt: (listen, host) => (options: Options) =>
      // Bun says what is wrong.
      typeof options === "object" && options !== null
        ? open(originalOf(listen), host, options, { bun, reusePort })
        : originalOf(listen).call(bun, options),
  };
}
