/** Process 1 of a container: it inherits every process whose parent is gone, and has to reap it. */
import { readFileSync } from "node:fs";
import process from "node:process";
import { replaceProcess } from "../adapters/tools/replace_process.ts";

/** Tells this program that process 1 is its reaper. */
export const REAPER_VARIABLE = "RELOAD_SELF_REAPER";

/** A shell does that while it waits; no runtime can wait for a process that it has not started. The shell passes signals on. */
const REAPER = `${REAPER_VARIABLE}=1 "$0" "$@" & child=$!
for signal in HUP INT TERM QUIT USR1 USR2; do trap "kill -$signal $child" $signal; done
while :; do
  wait $child
  code=$?
  kill -0 $child 2>/dev/null || exit $code
done`;

/** Replaces process 1 by a shell that starts this program again as another process. Returns why that is not possible. */
export function makeWayForReaper(): string | undefined {
  if (process.pid !== 1 || process.platform !== "linux") return undefined;
  const [, ...args] = readFileSync("/proc/self/cmdline", "utf8").split("\0").slice(0, -1);
  return replaceProcess("/bin/sh", ["sh", "-c", REAPER, process.execPath, ...args]);
}
