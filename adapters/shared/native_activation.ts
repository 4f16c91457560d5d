/**
 * Sockets that a process was started with, for servers of the runtime's own. They are asked for
 * before the rest of the library is loaded.
 */
import type {
  ActivatedAddress,
  NativeAddress,
  NativeHost,
  Placement,
} from "../../src/core/native.ts";
import type { Libc } from "../../src/core/socket_adapter.ts";
import { isSameHost, readSocketAddress } from "../../src/linux/addresses.ts";
import { getAddress } from "../../src/linux/socket_options.ts";
import { ifUsable } from "./libc.ts";
import { FIRST } from "./listen_fds.ts";

/**
 * Finds a socket for each server that asks for its address.
 *
 * @param count How many sockets this process was started with.
 * @param defaultPort The port of a server that asks for none.
 */
export function createNativeActivation(
  count: number,
  libc: () => Libc | string,
  defaultPort: () => unknown,
): (asked: NativeAddress) => ActivatedAddress | undefined {
  const used = new Set<number>();

  function addressOf(libc: Libc, fd: number): ActivatedAddress | undefined {
    const bytes = getAddress(libc, "getsockname", fd);
    const { host: hostname, port } = (bytes && readSocketAddress(bytes)) ?? {};
    return hostname === undefined || port === undefined ? undefined : { fd, hostname, port };
  }

  return (asked) => {
    const opened = count === 0 || "path" in asked ? undefined : ifUsable(libc());
    if (opened === undefined || "path" in asked) return undefined;
    const port = Number(asked.port ?? defaultPort());
    const hostname = typeof asked.hostname === "string" ? asked.hostname : undefined;
    const found = Array.from({ length: count }, (_, i) => FIRST + i).filter((fd) => !used.has(fd))
      .map((fd) => addressOf(opened, fd)).find((socket) =>
        socket?.port === port && isSameHost(hostname, socket.hostname)
      );
    if (found !== undefined) used.add(found.fd);
    return found;
  };
}

/**
 * Where a native server is opened that asks for a port: instead of an address of the predecessor's,
 * or of a socket that this process was started with, at a private port, until it gets that socket.
 * Only this machine reaches it, and nobody is told.
 *
 * @param reusePort Whether several processes have sockets at the address.
 */
function networkPlace({ inherited, activated }: Placement, reusePort: boolean): object {
  if (inherited !== undefined || activated !== undefined) {
    return { port: 0, hostname: "127.0.0.1", reusePort: false };
  }
  return reusePort ? { reusePort } : {};
}

/** What a server of a runtime is asked for. */
export interface AskedPlace {
  /** The path of a unix socket; `undefined` for a port. */
  readonly path: string | undefined;
  readonly port: unknown;
  readonly hostname: unknown;
}

/**
 * Chooses where a server is opened. Returns also the options of the runtime that say so.
 *
 * @param pathOption The option of the runtime for a path.
 * @param reusePort Whether several processes have sockets at the address.
 */
export function choosePlace(
  host: NativeHost,
  { path, port, hostname }: AskedPlace,
  pathOption: "path" | "unix",
  reusePort: boolean,
): { readonly placement: Placement; readonly where: object } {
  const placement = host.place(path !== undefined ? { path } : { port, hostname });
  const where = path !== undefined
    ? { [pathOption]: placement.temporaryPath }
    : networkPlace(placement, reusePort);
  return { placement, where };
}
