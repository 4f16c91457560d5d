/** Sockets of Deno.listenDatagram. */
import { originalOf } from "../../src/core/marks.ts";
import type { DatagramHost, NativeDatagrams } from "../../src/core/datagrams.ts";
import type { ServeFunction } from "../../src/core/native.ts";
import type { DescriptorSocket } from "../shared/descriptor_datagrams.ts";
import { isMemberByCode } from "../shared/join_again.ts";
import type { Aside } from "../shared/node_datagrams.ts";
import type { DenoNamespace } from "./namespace.ts";

/** The options of Deno.listenDatagram that are looked at. */
interface Options {
  readonly transport?: unknown;
  readonly port?: unknown;
  readonly hostname?: unknown;
}

/** A socket of Deno.listenDatagram. */
interface Connection {
  readonly addr: { readonly hostname: string; readonly port: number };
  receive(buffer?: Uint8Array): Promise<unknown>;
  joinMulticastV4(...args: unknown[]): Promise<unknown>;
  joinMulticastV6(...args: unknown[]): Promise<unknown>;
  close(): void;
}

function open(listenDatagram: ServeFunction, host: DatagramHost, options: Options, { errors }: DenoNamespace): Connection {
  const { port, hostname } = options;
  const { key, inherited } = host.place({ type: "udp", hostname, port });
  const reported = inherited?.reported as Connection["addr"] | undefined;
  // Where it waits for the predecessor's socket, only this machine reaches it, at a port that nobody is told.
  const where = reported && { port: 0, hostname: reported.hostname.includes(":") ? "::1" : "127.0.0.1" };
  const connection: Connection = listenDatagram({ ...options, ...where });
  const own = connection.addr;
  const receive = connection.receive.bind(connection);
  const close = connection.close.bind(connection);
  const opened = Promise.withResolvers<void>();
  opened.promise.catch(() => {}); // May reject before anybody waits.
  let aside: Aside | undefined;
  /** Set while nothing is to be read. */
  let gate: PromiseWithResolvers<void> | undefined;
  /** Those that are told when nothing is received any more. */
  const waiting = new Set<(error: unknown) => void>();
  let isClosed = false;
  /** Why nothing is received any more. */
  let ended: unknown;
  let fd: number | undefined;

  function end(reason: unknown): void {
    ended = reason;
    self.hold?.(false);
    for (const reject of waiting) reject(reason);
  }

  function define(name: string, value: unknown): void {
    Object.defineProperty(connection, name, { configurable: true, enumerable: true, value });
  }
  // It remembers the address at which it was opened.
  if (reported !== undefined) define("addr", reported);
  // Deno's own iterator calls it too, and ends where it is interrupted. Deno reads while there is something, polled or not.
  define("receive", async (buffer?: Uint8Array) => {
    while (gate !== undefined && !isClosed) await gate.promise;
    if (ended !== undefined) throw ended;
    return await new Promise((resolve, reject) => {
      waiting.add(reject);
      receive(buffer).then((datagram) => {
        waiting.delete(reject);
        resolve(datagram);
      }, (error) => {
        waiting.delete(reject);
        reject(error);
      });
    });
  });
  define("close", () => {
    isClosed = true;
    gate?.resolve();
    close();
  });
  if (inherited !== undefined) {
    for (const name of ["joinMulticastV4", "joinMulticastV6"] as const) {
      const join = connection[name].bind(connection);
      define(name, async (...args: unknown[]) => {
        await opened.promise;
        try {
          return await join(...args);
        } catch (error) {
          // The predecessor's socket is a member already. What has to be returned knows the socket by its number: another one joins there.
          if (aside === undefined || !isMemberByCode(error)) throw error;
          return await aside(() => join(...args));
        }
      });
    }
  } else opened.resolve();

  const self: DescriptorSocket = {
    key,
    opened: opened.promise,
    get isClosed() {
      return isClosed;
    },
    reported: () => ({ ...connection.addr }),
    descriptor: (search) => fd ??= search.boundTo(own.hostname, own.port),
    hold(isHeld) {
      if (isHeld === (gate !== undefined)) return;
      gate?.resolve();
      gate = isHeld ? Promise.withResolvers() : undefined;
    },
    replaced(call) {
      aside = call;
      opened.resolve();
    },
    end: () => end(new errors.Interrupted("nothing more is received: this process is being replaced, or shuts down")),
    fail(error) {
      opened.reject(error);
      end(error);
    },
    close() {
      if (!isClosed) connection.close();
    },
  };
  host.add(self);
  return connection;
}

/** Deno.listenDatagram, which the token can adopt. */
export function denoDatagrams(deno: DenoNamespace): NativeDatagrams {
  return {
    name: "Deno.listenDatagram (with --unstable-net)",
    is: (open) => open !== undefined && originalOf(open) === originalOf(deno.listenDatagram),
    adopt: (listenDatagram, host) => (options: Options) =>
      // Deno says what is wrong, and opens unix sockets by itself.
      options?.transport === "udp"
        ? open(originalOf(listenDatagram), host, options, deno)
        : originalOf(listenDatagram)(options),
  };
}
