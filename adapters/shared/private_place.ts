import type { Placement } from "../../src/core/native.ts";

/**
 * Where a native server is opened that asks for a port: instead of an address of the predecessor's, or of a socket that this process was
 * started with, at a private port, until it gets that socket. Only this machine reaches it, and nobody is told.
 *
 * @param reusePort Whether several processes have sockets at the address.
 */
export function networkPlace({ inherited, activated }: Placement, reusePort: boolean): object {
  if (inherited !== undefined || activated !== undefined) return { port: 0, hostname: "127.0.0.1", reusePort: false };
  return reusePort ? { reusePort } : {};
}
