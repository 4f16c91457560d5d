/**
 * What a process holds of the kernel's: descriptors, and what its epoll instances poll;
 * proc_pid_fd(5), proc_pid_fdinfo(5), epoll(7).
 */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";

/** What a process holds. */
export interface Resources {
  /**
   * What its descriptors lead to, sorted, without the numbers that differ from process to process.
   */
  readonly descriptors: readonly string[];
  /** How many descriptors its epoll instances poll. */
  readonly registrations: number;
  /**
   * Registrations of sockets that it does not have any more: its runtime would hear of them for
   * ever.
   */
  readonly strays: readonly string[];
}

/**
 * Looks at a process. It is seen between two of its steps too: what is looked for may come, or be
 * gone, a moment later.
 */
export function resourcesOf(pid: number): Resources {
  const targets = new Map(
    readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
      try {
        return [[fd, readlinkSync(`/proc/${pid}/fd/${fd}`)] as const];
      } catch {
        return []; // Closed meanwhile.
      }
    }),
  );
  const sockets = new Set(
    [...targets.values()].map((target) => /^socket:\[(\d+)\]$/.exec(target)?.[1]),
  );
  const strays: string[] = [];
  let registrations = 0;
  for (const [epoll, target] of targets) {
    if (target !== "anon_inode:[eventpoll]") continue;
    for (const line of readFileSync(`/proc/${pid}/fdinfo/${epoll}`, "utf8").split("\n")) {
      const [, fd, inode] = /^tfd: *(\d+) .* ino:([0-9a-f]+) /.exec(line) ?? [];
      if (fd === undefined) continue;
      registrations++;
      // What else is polled (a timer, an event) has the same inode in all processes.
      const isSocket = targets.get(fd)?.startsWith("socket:") ?? true;
      if (isSocket && !sockets.has(String(parseInt(inode as string, 16)))) strays.push(line);
    }
  }
  const descriptors = [...targets.values()].map((target) => target.replace(/\[\d+\]$/, "")).sort();
  return { descriptors, registrations, strays };
}

/** What the second has more than the first, by kind: empty when nothing has leaked. */
export function leaksBetween(before: Resources, after: Resources): string[] {
  const count = (names: readonly string[], name: string) =>
    names.filter((other) => other === name).length;
  const leaks = [...new Set(after.descriptors)].flatMap((name) => {
    const more = count(after.descriptors, name) - count(before.descriptors, name);
    return more > 0 ? [`${more} more ${name}`] : [];
  });
  const more = after.registrations - before.registrations;
  if (more > 0) leaks.push(`${more} more registrations`);
  return [
    ...leaks,
    ...after.strays.map((stray) => `a registration of a file that is closed: ${stray}`),
  ];
}
