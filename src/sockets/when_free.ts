import type { Clock } from "../core/adapter.ts";
import { pause } from "../core/pause.ts";

/** How long the kernel may take to close the sockets of a process that was killed, and how often to try. */
const CLOSE_TIMEOUT_MS = 5_000;
const RETRY_MS = 10;

/** Opens a socket at the address of a process that is gone: again and again while that address is in use. */
export async function whenFree<T>(clock: Clock, open: () => T | Promise<T>): Promise<T> {
  for (const begun = clock.now();;) {
    try {
      return await open();
    } catch (error) {
      if ((error as { code?: unknown }).code !== "EADDRINUSE" || clock.now() - begun > CLOSE_TIMEOUT_MS) throw error;
    }
    await pause(clock, RETRY_MS);
  }
}
