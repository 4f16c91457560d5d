/**
 * When a process started, in clock ticks since the machine did: no two processes with the same pid have the same. A time of day could be
 * set meanwhile. From the text of /proc/PID/stat, field 22; proc(5).
 */
export function parseStartTime(stat: string): string | undefined {
  // The name in the second field may have spaces and parentheses in it.
  const [ticks] = stat.slice(stat.lastIndexOf(")") + 2).split(" ").slice(19);
  return ticks !== undefined && /^\d+$/.test(ticks) ? ticks : undefined;
}
