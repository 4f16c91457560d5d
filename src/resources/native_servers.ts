/**
 * The servers of the runtime's own that the token has adopted. They are opened before the rest of
 * the library is loaded.
 */
import type { BasicAdapter } from "../core/adapter.ts";
import { show } from "../core/check.ts";
import type { DatagramHost } from "../core/datagrams.ts";
import type { Files } from "../core/files.ts";
import type {
  AdoptedServer,
  InheritedAddress,
  NativeAddress,
  NativeHost,
  ServeFunction,
} from "../core/native.ts";
import { parseOffered } from "../protocol/handshake.ts";
import { freeKey } from "./free_key.ts";

/** The native servers of this process. */
export interface NativeServers {
  /** As {@linkcode Token.adopt}. */
  adopt<S extends ServeFunction>(serve: S): S;
  /** Those that are open. */
  readonly servers: readonly AdoptedServer[];
  /** Those that the predecessor has, by their keys. */
  readonly inherited: ReadonlyMap<string, InheritedAddress>;
  /** Called for each that is opened from now on. */
  onOpen: ((server: AdoptedServer) => void) | undefined;
}

/** Names an address: the same in every generation, also where the kernel chose the port. */
function keyOf(asked: NativeAddress): string {
  return "path" in asked ? asked.path : `${asked.hostname ?? "*"}:${asked.port ?? "default"}`;
}

type FilesOfPaths = Pick<Files, "kind" | "remove" | "rename">;

/** Throws where the path is not free. The socket of a process that was killed is replaced. */
function checkPath(path: string, files: FilesOfPaths, { native, pid }: BasicAdapter): void {
  const kind = files.kind(path);
  if (kind === "other") {
    throw new TypeError(`the file at ${path} is not a socket; it is not replaced`);
  }
  const isServed = kind === "socket" && native?.serve?.isServed(path);
  if (isServed !== false) {
    const why = isServed === undefined
      ? `whether a program serves ${path} cannot be known without --allow-ffi; remove it if ` +
        "none does"
      : `another program serves ${path}`;
    throw Object.assign(new Error(`EADDRINUSE: ${why}`), { code: "EADDRINUSE" });
  }
  files.remove(`${path}.${pid}`); // Left behind by a killed process that had this pid.
}

/**
 * No servers yet.
 *
 * @param isCancelled Whether the token is: then the application may stop its servers, and they are
 * drained all the same.
 */
export function createNativeServers(
  adapter: BasicAdapter,
  files: () => FilesOfPaths,
  host: Pick<NativeHost, "wrap" | "running" | "answered">,
  datagramHost: DatagramHost,
  isCancelled: () => boolean,
): NativeServers {
  const { canReload, native, nativeOffer, pid, runtime, threads } = adapter;
  const servers: AdoptedServer[] = [];
  const inherited = parseOffered(nativeOffer, "server");

  const nativeHost: NativeHost = {
    ...host,
    place(asked) {
      const key = freeKey(keyOf(asked), new Set(servers.map(({ key }) => key)));
      if ("path" in asked && !inherited.has(key)) checkPath(asked.path, files(), adapter);
      return {
        key,
        inherited: inherited.get(key),
        activated: native?.serve.activated?.(asked),
        temporaryPath: "path" in asked ? `${asked.path}.${pid}` : undefined,
      };
    },
    add(server) {
      const { key, own, path } = server;
      if (path !== undefined && !inherited.has(key)) files().rename(String(own), path);
      servers.push(server);
      self.onOpen?.(server);
    },
    remove(server) {
      const index = isCancelled() ? -1 : servers.indexOf(server);
      if (index >= 0) servers.splice(index, 1);
    },
  };
  const self: NativeServers = {
    servers,
    inherited,
    onOpen: undefined,
    adopt(serve) {
      if (native === undefined) {
        throw new TypeError(
          `adopt: ${runtime} has no servers of its own; those of node:http and the like listen ` +
            "with token.bind(server, ...)",
        );
      }
      const { datagrams, listen } = native;
      const opening = [native.serve, listen].find((known) => known.is(serve));
      if (opening === undefined && !datagrams.is(serve)) {
        const names = [native.serve, listen, datagrams].map(({ name }) => name).join(" or ");
        throw new TypeError(`adopt: it takes ${names}, not ${show(serve)}`);
      }
      if (!canReload && threads === undefined) return serve;
      return (opening?.adopt(serve, nativeHost) ??
        datagrams.adopt(serve, datagramHost)) as typeof serve;
    },
  };
  return self;
}
