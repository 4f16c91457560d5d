/**
 * The arithmetic of SO_REUSEPORT groups. The kernel keeps the sockets of a group in the order in
 * which they began to listen; when one leaves, the last takes its place. Old sockets come first,
 * those of new processes behind them.
 */
import type { OwnListener } from "../../linux/listeners.ts";

/** How many sockets listen on each address. */
export type Counts = ReadonlyMap<string, number>;

/** A socket of this process, and its position in its group. */
export interface Placed extends OwnListener {
  readonly position: number;
}

/** The sockets of one address when a reload begins. */
export interface Group {
  readonly key: string;
  readonly name: string;
  /** The sockets of this process, by position. */
  readonly own: readonly Placed[];
  /** The number of sockets of this generation: of this process and of the other instances. */
  readonly old: number;
}

/**
 * The sockets of this process in a group, by position.
 *
 * @param own In the order in which they were opened.
 * @param known Their positions, in the same order. Where they are not known,
 *   this process has the first ones.
 */
export function place(own: readonly OwnListener[], known: readonly number[] | undefined): Placed[] {
  const isKnown = known?.length === own.length;
  return own.map((listener, i) => ({
    ...listener,
    position: (isKnown ? known[i] : undefined) ?? i,
  }))
    .sort((a, b) => a.position - b.position);
}

/** The number of sockets in a group that were opened since `before`. */
export function countSince({ key, old }: Group, before: Counts, now: Counts): number {
  return Math.max(0, (now.get(key) ?? 0) - (before.get(key) ?? old));
}

/** The number of sockets that all new processes have opened in a group. */
export function countNew(group: Group, now: Counts): number {
  return countSince(group, new Map(), now);
}

/**
 * The new sockets that connections are steered to while an old one leaves: the first position, and
 * how many. The last of them moves when it has left.
 *
 * Behind the positions of all old sockets there are only new ones, whichever old one leaves.
 */
export function steeredTo(
  position: number,
  old: number,
  total: number,
): [first: number, count: number] {
  const behind = total - old;
  return behind > 1 || (behind === 1 && position === 0)
    ? [old, behind]
    : [position + 1, total - 1 - position];
}

/**
 * The order of the new sockets in a group of `old` and `fresh` ones, after the old ones have left
 * from the last to the first.
 */
export function orderAfter(old: number, fresh: number): number[] {
  const group = [...Array<number>(old).fill(-1), ...Array.from({ length: fresh }, (_, i) => i)];
  for (let i = old - 1; i >= 0; i--) {
    const last = group.pop() as number;
    if (i < group.length) group[i] = last;
  }
  return group;
}

/**
 * The positions of the new process's sockets after all old ones have left.
 *
 * @param before The counts when the new process was about to be started.
 * @param after The counts when it was ready.
 * @param all The number of sockets that all new processes have opened.
 */
export function positionsAfter(
  { key, old }: Group,
  before: Counts,
  after: Counts,
  all: number,
): number[] {
  const first = (before.get(key) ?? old) - old;
  const count = (after.get(key) ?? old) - old - first;
  const order = orderAfter(old, all);
  return Array.from({ length: Math.max(0, count) }, (_, i) => order.indexOf(first + i));
}
