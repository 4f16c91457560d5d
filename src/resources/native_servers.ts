/** The servers of the runtime's own that the token has adopted. They are opened before the rest of the library is loaded. */
import type { BasicAdapter } from "../core/adapter.ts";
import { show } from "../core/check.ts";
import type { DatagramHost } from "../core/datagrams.ts";
import type { Files } from "../core/files.ts";
import type { AdoptedServer, InheritedAddress, NativeAddress, NativeHost, ServeFunction } from "../core/native.ts";

/** The native servers of this process. */
export interface NativeServers {
  /** As {@linkcode Token.adopt}. */
  adopt<S extends ServeFunction>(serve: S): S;
  /** Those that were opened. */
  readonly servers: readonly AdoptedServer[];
  /** Those that the predecessor has, by their keys. */
  readonly inherited: ReadonlyMap<string, InheritedAddress>;
  /** Called for each that is opened from now on. */
  onOpen: ((server: AdoptedServer) => void) | undefined;
}

/** An address that the predecessor has, in the text for its successor. */
export interface OfferedAddress extends InheritedAddress {
  readonly kind: "server" | "datagrams";
  readonly key: string;
}

/** What the predecessor has of a kind, from its text; nothing for anything else. See `native` in src/reload/handover.ts. */
export function parseOffered(text: string | undefined, of: OfferedAddress["kind"]): Map<string, InheritedAddress> {
  const found = new Map<string, InheritedAddress>();
  let list: unknown;
  try {
    list = JSON.parse(text ?? "[]");
  } catch {
    return found;
  }
  for (const one of Array.isArray(list) ? list : []) {
    const { kind, key, reported, place } = (one ?? {}) as Partial<OfferedAddress>;
    if (kind === of && typeof key === "string" && typeof reported === "object" && reported !== null) {
      found.set(key, { reported, place });
    }
  }
  return found;
}

/** Names an address: the same in every generation, also where the kernel chose the port. */
function keyOf(asked: NativeAddress): string {
  return "path" in asked ? asked.path : `${asked.hostname ?? "*"}:${asked.port ?? "default"}`;
}

/** No servers yet. */
export function createNativeServers(
  { canReload, native, nativeOffer, pid, runtime }: BasicAdapter,
  files: () => Pick<Files, "kind" | "remove" | "rename">,
  host: Pick<NativeHost, "wrap" | "running" | "answered">,
  datagramHost: DatagramHost,
): NativeServers {
  const { serve: nativeServe, datagrams: nativeDatagrams } = native ?? {};
  const servers: AdoptedServer[] = [];
  const inherited = parseOffered(nativeOffer, "server");
  /** How many servers were asked for at an address. */
  const counts = new Map<string, number>();

  /** Throws where the path is not free. The socket of a process that was killed is replaced. */
  function checkPath(path: string): void {
    const kind = files().kind(path);
    if (kind === "other") throw new TypeError(`the file at ${path} is not a socket; it is not replaced`);
    const isServed = kind === "socket" && nativeServe?.isServed(path);
    if (isServed !== false) {
      const why = isServed === undefined
        ? `whether a program serves ${path} cannot be known without --allow-ffi; remove it if none does`
        : `another program serves ${path}`;
      throw Object.assign(new Error(`EADDRINUSE: ${why}`), { code: "EADDRINUSE" });
    }
    files().remove(`${path}.${pid}`); // Left behind by a killed process that had this pid.
  }

  const nativeHost: NativeHost = {
    ...host,
    place(asked) {
      const base = keyOf(asked);
      const count = (counts.get(base) ?? 0) + 1;
      counts.set(base, count);
      const key = count === 1 ? base : `${base} #${count}`;
      if ("path" in asked && !inherited.has(key)) checkPath(asked.path);
      return {
        key,
        inherited: inherited.get(key),
        activated: nativeServe?.activated?.(asked),
        temporaryPath: "path" in asked ? `${asked.path}.${pid}` : undefined,
      };
    },
    add(server) {
      if (server.path !== undefined && !inherited.has(server.key)) files().rename(String(server.own), server.path);
      servers.push(server);
      self.onOpen?.(server);
    },
  };
  const self: NativeServers = {
    servers,
    inherited,
    onOpen: undefined,
    adopt(serve) {
      if (nativeServe === undefined) {
        throw new TypeError(
          `adopt: ${runtime} has no servers of its own; those of node:http and the like listen with token.bind(server, ...)`,
        );
      }
      const opensDatagrams = nativeDatagrams?.is(serve) === true;
      if (!opensDatagrams && !nativeServe.is(serve)) {
        const names = [nativeServe.name, nativeDatagrams?.name].filter(Boolean).join(" or ");
        throw new TypeError(`adopt: it takes ${names}, not ${show(serve)}`);
      }
      if (!canReload) return serve;
      return (opensDatagrams
        ? nativeDatagrams.adopt(serve, datagramHost)
        : nativeServe.adopt(serve, nativeHost)) as typeof serve;
    },
  };
  return self;
}
