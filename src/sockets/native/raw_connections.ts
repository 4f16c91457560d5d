/**
 * The connections of `Deno.listen` and `Bun.listen` while their server drains. They are the
 * application's: only the kernel knows all of them.
 */
import type { Clock } from "../../core/adapter.ts";
import { pause } from "../../core/pause.ts";
import type { Libc } from "../../core/socket_adapter.ts";
import { connectionsAt, scanSockets } from "../../linux/socket_scan.ts";
import { takeConnection } from "../../linux/transplant.ts";

/** How often they are looked for, in milliseconds: that takes up to one for each hundred. */
const CHECK_MS = 100;

/** Those of one server. */
export interface RawConnections {
  /** Resolves when none is left, or they have been cut. */
  ended(): Promise<void>;
  /**
   * Closes all that are left. The application finds others below, which their clients have closed.
   * Returns how many they were.
   */
  cut(): number;
}

/**
 * Those that were accepted at a place.
 *
 * @param at The port, or the name under which the unix socket was made.
 */
export function createRawConnections(
  libc: Libc,
  clock: Clock,
  at: number | string,
): RawConnections {
  let isCut = false;
  return {
    async ended() {
      while (!isCut && connectionsAt(scanSockets(libc), at).length > 0) {
        await pause(clock, CHECK_MS);
      }
    },
    cut() {
      isCut = true;
      const scan = scanSockets(libc);
      const left = connectionsAt(scan, at);
      for (const fd of left) {
        const taken = takeConnection(libc, scan, fd);
        if (typeof taken === "number") libc.close(taken);
      }
      return left.length;
    },
  };
}
