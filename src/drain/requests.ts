/**
 * The requests of the runtime's own servers that are under way, as far as a wrapped fetch handler
 * sees them.
 */
import type { Clock, NativeServerView } from "../core/adapter.ts";

/** A request that is being answered. */
export interface Entry {
  readonly request?: unknown;
  /** What the runtime has given the handler besides the request. */
  readonly more?: unknown;
  /** Ends it: it is not answered, or not to the end. */
  cut(): void;
}

/** How requests are finished; times in milliseconds. */
export interface FinishSettings {
  /** Whether another process gets all new connections: what comes in here dries up by itself. */
  readonly isReplaced: boolean;
  /** When the remaining ones are cut. */
  readonly timeout: number;
  /** Called with how many had to be cut. */
  onCut(count: number): void;
}

/** The requests of one process. */
export interface Requests {
  add(entry: Entry): void;
  end(entry: Entry): void;
  has(entry: Entry): boolean;
  /** Those that are being answered. */
  running(): Iterable<Entry>;
  /** Remembers a server that a request has come from. */
  sawServer(server: NativeServerView): void;
  /**
   * Resolves when no request is under way any more; without a successor, when those have ended that
   * were under way at the call, because there may be no end of new ones until the application
   * closes its server. The result is the number of those that were cut.
   */
  finish(settings: FinishSettings): Promise<number>;
}

/** Milliseconds between two looks at servers that only tell how many requests they have. */
const CHECK_MS = 50;

/** No requests yet. */
export function createRequests(clock: Clock): Requests {
  const running = new Set<Entry>();
  const servers = new Set<NativeServerView>();
  /** What follows the requests, once they are being finished. */
  let look: (() => void) | undefined;

  return {
    add(entry) {
      running.add(entry);
      look?.();
    },
    end(entry) {
      running.delete(entry);
      look?.();
    },
    has: (entry) => running.has(entry),
    running: () => running,
    sawServer(server) {
      servers.add(server);
      look?.();
    },
    finish({ isReplaced, timeout, onCut }) {
      const awaited = new Set(running);
      const deadline = clock.now() + timeout;
      const finished = Promise.withResolvers<number>();
      const counts = () => [...servers].reduce((sum, server) => sum + server.pending, 0);
      let stopTimer: (() => void) | undefined;

      function cut(count: number): void {
        for (const server of servers) if (server.pending > 0) server.cut();
        for (const entry of [...running]) entry.cut();
        onCut(count);
      }

      look = () => {
        for (const entry of awaited) if (!running.has(entry)) awaited.delete(entry);
        if ((isReplaced ? running : awaited).size === 0) finished.resolve(0);
        // A request of which the server knows more than its handler: its answer is a stream, or it
        // has become a WebSocket.
        if (stopTimer !== undefined || (running.size === 0 && servers.size === 0)) return;
        stopTimer = clock.timer(Math.max(1, Math.min(CHECK_MS, deadline - clock.now())), () => {
          stopTimer = undefined;
          const count = Math.max(running.size, counts());
          if (count === 0) return;
          if (clock.now() < deadline) return look?.();
          look = undefined; // To be cut is to end.
          cut(count);
          // Until then their last bytes are sent.
          stopTimer = clock.timer(CHECK_MS, () => finished.resolve(count));
        });
      };
      look();
      return finished.promise;
    },
  };
}
