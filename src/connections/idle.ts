/**
 * Moves the connections of HTTP/1 servers that wait for their next request, so that no client has
 * to connect again. They move when the new process has passed its probation: should it die before,
 * no connection dies with it. Bound and native servers differ in how a connection is known to be
 * idle; all else is here.
 */
import type { Clock } from "../core/adapter.ts";
import type { LiveSocket } from "../core/live.ts";
import { pause } from "../core/pause.ts";
import type { ConnectionAdapter } from "../core/socket_adapter.ts";
import type {
  Handover,
  IncomingHandover,
  IncomingReload,
  OutgoingHandover,
  OutgoingReload,
} from "../reload/handover.ts";
import { receiveConnections } from "./receiver.ts";
import { type ConnectionSender, createConnectionSender } from "./sender.ts";

/**
 * How long to wait for one more connection to become idle. Those that are busy for longer are
 * drained.
 */
const MOVE_TIMEOUT_MS = 1_000;
/**
 * Milliseconds between two looks at the connections that were busy: at least, and as a multiple of
 * the time that a look takes.
 */
const RETRY_MS = 10;
const RETRY_PART = 5;

/** The servers of one kind. */
export interface IdleSource {
  /** What takes their connections for one reload. */
  outgoing(sender: ConnectionSender, reload: OutgoingReload): OutgoingIdle;
  /** Goes on with a connection. Returns whether there is a server of that key. */
  serve?(key: string, socket: LiveSocket): boolean;
  /** The same for one that comes as a descriptor. Missing where this kind takes none. */
  readonly serveDescriptor: ((key: string, fd: number) => boolean | Promise<unknown>) | undefined;
  /** How many descriptors are about to be opened for those that came. */
  reserved?(): number;
  /** No more come. */
  end?(): void;
}

/** The connections of one kind of server, for one reload. */
export interface OutgoingIdle {
  /** All handovers are prepared. */
  beforeStart?(): void;
  /** The new process is about to be in charge. */
  commit?(): void;
  /** Whether there is something to move. Asked when the probation is over. */
  hasAny(): boolean;
  /** Whether descriptors may be sent. */
  sendsDescriptors(): boolean;
  /**
   * Gives those that are idle to the sender, some at a time: the others are served here until it is
   * their turn.
   */
  take(): Iterable<void> | AsyncIterable<void>;
  /** Whether some were not idle, as far as the last look goes. */
  isBusy(): boolean;
  /** None is taken any more; called before the sender gives back what is left. */
  end?(): void;
  /** How many stay in this process. Called once, after the move. */
  left(): number;
  rollback?(): void;
}

/** The handover of idle connections. */
export function createIdleConnections(
  adapter: ConnectionAdapter | undefined,
  clock: Clock,
  sources: readonly IdleSource[],
): Handover {
  const name = "the idle connections";
  if (adapter === undefined || sources.length === 0) return { name };
  return {
    name,
    outgoing: (reload) => sendIdle(adapter, clock, sources, reload),
    incoming: (arrival) => receiveIdle(adapter, sources, arrival),
  };
}

function receiveIdle(
  adapter: ConnectionAdapter,
  sources: readonly IdleSource[],
  arrival: IncomingReload,
): IncomingHandover {
  const takers = sources.flatMap(({ serveDescriptor }) => serveDescriptor ?? []);
  receiveConnections(adapter, arrival, {
    serve: (key, socket) => sources.some((source) => source.serve?.(key, socket)),
    reserved: () => sources.reduce((sum, source) => sum + (source.reserved?.() ?? 0), 0),
    ...(takers.length > 0 && {
      serveDescriptor(key, fd) {
        for (const serve of takers) {
          const served = serve(key, fd);
          if (served !== false) return served;
        }
        return false;
      },
    }),
  });
  return { over: () => sources.forEach((source) => source.end?.()) };
}

function sendIdle(
  adapter: ConnectionAdapter,
  clock: Clock,
  sources: readonly IdleSource[],
  reload: OutgoingReload,
): OutgoingHandover {
  const sender = createConnectionSender(adapter.window, clock, reload);
  const all = sources.map((source) => source.outgoing(sender, reload));
  let left: number | undefined;
  return {
    beforeStart: () => all.forEach((one) => one.beforeStart?.()),
    sendsDescriptors: () => all.some((one) => one.sendsDescriptors()),
    offer: sender.open,
    commit: () => all.forEach((one) => one.commit?.()),
    async beforeRetire(hurry) {
      const active = all.filter((one) => one.hasAny());
      if (active.length === 0) return;
      const stop = AbortSignal.any([reload.signal, hurry]);
      // The new process is gone, or hangs: what is left is drained.
      await move(active, sender, clock, stop).catch(() => {});
      for (const one of active) one.end?.();
      sender.finish();
      left = active.reduce((sum, one) => sum + one.left(), 0);
    },
    moved() {
      const { moved, milliseconds } = sender;
      return left === undefined || moved + left === 0
        ? undefined
        : { kind: "idle", moved, left, milliseconds };
    },
    rollback() {
      for (const one of all) one.end?.();
      sender.giveBack();
      for (const one of all) one.rollback?.();
    },
  };
}

/** Moves all that become idle in time. */
async function move(
  active: readonly OutgoingIdle[],
  sender: ConnectionSender,
  clock: Clock,
  stop: AbortSignal,
): Promise<void> {
  await sender.tell("begin", true);
  let moved = 0;
  for (let last = clock.now(); clock.now() - last < MOVE_TIMEOUT_MS;) {
    const begun = clock.now();
    let sending = 0;
    for (const one of active) {
      for await (const _ of one.take()) {
        const taken = clock.now();
        await sender.sendAll();
        if (stop.aborted) return;
        sending += clock.now() - taken;
      }
    }
    await sender.sendAll();
    if (stop.aborted) return;
    // Some may have been released meanwhile.
    if (!active.some((one) => one.isBusy())) return await sender.sendAll();
    if (sender.moved > moved) [last, moved] = [clock.now(), sender.moved];
    await pause(clock, Math.max(RETRY_MS, RETRY_PART * (clock.now() - begun - sending)));
  }
}
