/** What the moves of connections share that know a native server. */
import type { AdoptedServer } from "../core/native.ts";
import type { Libc, SocketAdapter } from "../core/socket_adapter.ts";
import type { ProgramContext } from "../reload/context.ts";
import type { NativeAccess } from "./live_access.ts";
import { createNativeArrivals, type NativeArrivals } from "./native_arrivals.ts";
import { NativeHandover } from "../sockets/native/native_servers.ts";
import { createWarnOnce } from "../sockets/common.ts";

/** The native servers of a program, as its handovers see them. */
export interface NativeSockets {
  readonly servers: NativeHandover;
  /** The servers whose connections have all moved to the new process. */
  readonly emptied: Set<AdoptedServer>;
  /** Those that come from another process. */
  arrivals(libc: Libc): NativeArrivals;
  /** What a move of live connections needs; `undefined` where none can move as a descriptor. */
  access(): NativeAccess | undefined;
}

/** Makes them. */
export function createNativeSockets(
  adapter: Pick<SocketAdapter, "libc" | "files">,
  program: ProgramContext,
): NativeSockets {
  const { clock, natives, warn } = program;
  let arrivals: NativeArrivals | undefined;
  const servers = new NativeHandover(adapter, program, async () => void await arrivals?.settled());

  return {
    servers,
    emptied: new Set(),
    arrivals: (libc) =>
      arrivals ??= createNativeArrivals({
        clock,
        libc,
        servers: () => natives.servers,
        findAll: (scan) => servers.findAll(libc, scan),
        warn: createWarnOnce(warn),
      }),
    access() {
      if (natives.servers.every(({ connections }) => connections === undefined)) return undefined;
      const { libc } = servers;
      return libc && { libc, serverOf: (scan, fd) => servers.serverOf(scan, fd) };
    },
  };
}
