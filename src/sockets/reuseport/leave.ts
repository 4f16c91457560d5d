import type { Clock } from "../../core/adapter.ts";
import { pause } from "../../core/pause.ts";
import type { Libc } from "../../core/socket_adapter.ts";
import { countListeners, hasWaiting, takeAway } from "../../linux/listeners.ts";
import { steer } from "../../linux/steering.ts";
import { type Group, type Placed, steeredTo } from "./groups.ts";
import type { SharedPorts } from "./reuseport.ts";

/** Milliseconds between two checks whether a server has accepted what waits for it. */
const ACCEPT_CHECK_MS = 1;
/** How long to wait for that before the socket is taken from the server. */
const ACCEPT_TIMEOUT_MS = 1_000;
/** How long a socket that may have got a connection at the last moment is left with its server. */
const LAST_CONNECTION_MS = 200;

/** What leaving the groups takes. */
export interface LeaveOptions {
  libc: Libc;
  clock: Clock;
  groups: readonly Group[];
  shared: SharedPorts | undefined;
  /** Cuts all waiting short. */
  signal: AbortSignal;
  warn(message: string): void;
}

/**
 * Takes the sockets of this process out of all groups, each group from the last to the first: the
 * last socket of the group takes the place of one that leaves, and behind the old sockets there are
 * only those of new processes.
 */
export async function leaveGroups(options: LeaveOptions): Promise<void> {
  const { groups, shared } = options;
  const left = new Map(groups.map(({ key, own }) => [key, [...own]]));
  for (;;) {
    const own = [...left].filter(([, own]) => own.length > 0);
    const positions = own.map(([key, own]) => [key, own.map(({ position }) => position)] as const);
    const key = shared === undefined ? own[0]?.[0] : await shared.turn(Object.fromEntries(positions));
    const group = groups.find((group) => group.key === key);
    const listener = left.get(key ?? "")?.pop();
    if (group === undefined || listener === undefined) return;
    if (!await leave(options, listener, group)) left.set(group.key, []);
  }
}

/** Takes the last of the old sockets out of its group. Returns whether that was possible. */
async function leave(
  { libc, clock, signal, warn }: LeaveOptions,
  { fd, key, name, position }: Placed,
  { own, old }: Group,
): Promise<boolean> {
  const [first, count] = steeredTo(position, old, countListeners(libc).get(key) ?? 0);
  steer(libc, fd, first, Math.max(1, count));
  // The server accepts what waits in the socket.
  const deadline = clock.now() + ACCEPT_TIMEOUT_MS;
  while (hasWaiting(libc, fd) && clock.now() < deadline && !signal.aborted) {
    await pause(clock, ACCEPT_CHECK_MS);
  }
  // The new sockets that keep their positions.
  const stable = count - 1;
  if (stable > 0) steer(libc, fd, first, stable);
  if (!takeAway(libc, fd)) {
    warn(
      `the socket of ${name} could not be taken from the server: the new process shares it until ` +
        "this one ends",
    );
    return false;
  }
  // Without a stable one the kernel chooses among all sockets for a moment. A connection that comes
  // to one of ours is served by us.
  if (stable <= 0 && position > 0 && !signal.aborted) {
    const rest = own.find((other) => other.position === position - 1);
    if (rest !== undefined) steer(libc, rest.fd, position, 1);
    await pause(clock, LAST_CONNECTION_MS);
  }
  return true;
}
