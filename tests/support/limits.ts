/** Limits of a process. */
import { execFileSync } from "node:child_process";
import { readdirSync } from "node:fs";

/**
 * Lets a process open only so many descriptors more. It gets the lowest numbers that are free, and
 * there may be gaps.
 */
export function leaveDescriptors(pid: number, count: number): void {
  const used = new Set(readdirSync(`/proc/${pid}/fd`).map(Number));
  let limit = 0;
  for (let free = 0; free < count; limit++) if (!used.has(limit)) free++;
  setDescriptors(pid, limit);
}

/** Sets the number that no descriptor of a process reaches. */
export function setDescriptors(pid: number, limit: number): void {
  execFileSync("prlimit", ["--pid", String(pid), `--nofile=${limit}:`]);
}
