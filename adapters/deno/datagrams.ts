/** Sockets of Deno.listenDatagram. */
import { originalOf } from "../../src/core/marks.ts";
import type { DatagramHost, NativeDatagrams } from "../../src/core/datagrams.ts";
import type { ServeFunction } from "../../src/core/native.ts";
import type { DescriptorSearch, DescriptorSocket } from "../shared/descriptor_datagrams.ts";
import { isMemberByCode } from "../shared/datagram_opening.ts";
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

/**
 * A socket that the application has opened. Some of its methods are replaced, and it may get the
 * predecessor's socket.
 */
class OpenedSocket implements DescriptorSocket {
  readonly key: string;
  readonly #connection: Connection;
  /** Where it was opened. */
  readonly #own: Connection["addr"];
  readonly #opened = Promise.withResolvers<void>();
  readonly #interrupted: DenoNamespace["errors"]["Interrupted"];
  #aside: Aside | undefined;
  /** Set while nothing is to be read. */
  #gate: PromiseWithResolvers<void> | undefined;
  /** Those that are told when nothing is received any more. */
  readonly #waiting = new Set<(error: unknown) => void>();
  #isClosed = false;
  /** Why nothing is received any more. */
  #ended: unknown;
  #fd: number | undefined;

  constructor(
    key: string,
    connection: Connection,
    reported: Connection["addr"] | undefined,
    { errors }: DenoNamespace,
  ) {
    this.key = key;
    this.#connection = connection;
    this.#own = connection.addr;
    this.#interrupted = errors.Interrupted;
    this.#opened.promise.catch(() => {}); // May reject before anybody waits.
    // It remembers the address at which it was opened.
    if (reported !== undefined) this.#define("addr", reported);
    this.#replaceReceive();
    const close = connection.close.bind(connection);
    this.#define("close", () => {
      this.#isClosed = true;
      this.#gate?.resolve();
      close();
    });
    if (reported === undefined) this.#opened.resolve();
    else {for (const name of ["joinMulticastV4", "joinMulticastV6"] as const) {
        this.#replaceJoin(name);
      }}
  }

  get opened(): Promise<void> {
    return this.#opened.promise;
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  reported(): Readonly<Record<string, unknown>> {
    return { ...this.#connection.addr };
  }

  descriptor(search: DescriptorSearch): number | undefined {
    return this.#fd ??= search.boundTo(this.#own.hostname, this.#own.port);
  }

  hold(isHeld: boolean): void {
    if (isHeld === (this.#gate !== undefined)) return;
    this.#gate?.resolve();
    this.#gate = isHeld ? Promise.withResolvers() : undefined;
  }

  replaced(aside: Aside): void {
    this.#aside = aside;
    this.#opened.resolve();
  }

  end(): void {
    this.#end(
      new this.#interrupted(
        "nothing more is received: this process is being replaced, or shuts down",
      ),
    );
  }

  fail(error: unknown): void {
    this.#opened.reject(error);
    this.#end(error);
  }

  close(): void {
    if (!this.#isClosed) this.#connection.close();
  }

  #end(reason: unknown): void {
    this.#ended = reason;
    this.hold(false);
    for (const reject of this.#waiting) reject(reason);
  }

  #define(name: string, value: unknown): void {
    Object.defineProperty(this.#connection, name, { configurable: true, enumerable: true, value });
  }

  /**
   * Deno's own iterator calls it too, and ends where it is interrupted. Deno reads while there is
   * something, polled or not.
   */
  #replaceReceive(): void {
    const receive = this.#connection.receive.bind(this.#connection);
    this.#define("receive", async (buffer?: Uint8Array) => {
      while (this.#gate !== undefined && !this.#isClosed) await this.#gate.promise;
      if (this.#ended !== undefined) throw this.#ended;
      const { promise, resolve, reject } = Promise.withResolvers<unknown>();
      this.#waiting.add(reject);
      receive(buffer).then(resolve, reject).finally(() => this.#waiting.delete(reject));
      return await promise;
    });
  }

  #replaceJoin(name: "joinMulticastV4" | "joinMulticastV6"): void {
    const join = this.#connection[name].bind(this.#connection);
    this.#define(name, async (...args: unknown[]) => {
      await this.#opened.promise;
      try {
        return await join(...args);
      } catch (error) {
        // The predecessor's socket is a member already. What has to be returned knows the socket by
        // its number: another one joins there.
        if (this.#aside === undefined || !isMemberByCode(error)) throw error;
        return await this.#aside(() => join(...args));
      }
    });
  }
}

function open(
  listenDatagram: ServeFunction,
  host: DatagramHost,
  options: Options,
  deno: DenoNamespace,
): Connection {
  const { port, hostname } = options;
  const { key, inherited } = host.place({ type: "udp", hostname, port });
  const reported = inherited?.reported as Connection["addr"] | undefined;
  // Where it waits for the predecessor's socket, only this machine reaches it, at a port that
  // nobody is told.
  const where = reported &&
    { port: 0, hostname: reported.hostname.includes(":") ? "::1" : "127.0.0.1" };
  const connection: Connection = listenDatagram({ ...options, ...where });
  host.add(new OpenedSocket(key, connection, reported, deno));
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
