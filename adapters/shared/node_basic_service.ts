import type { BasicServiceAdapter } from "../../src/core/service_adapter.ts";
import { hasEnded, parseStartTime } from "../../src/linux/proc.ts";
import { attempt } from "./attempt.ts";
import type { Environment } from "./environment.ts";
import type { NodeProcess } from "./node_channel.ts";
import { nodeFiles } from "./node_files.ts";

/** The text of /proc/PID/stat, where there is one. */
function readStat(process: NodeProcess, pid: number): string | undefined {
  // Wine has a /proc too, of other processes.
  if (process.platform !== "linux") return undefined;
  return attempt(() => process.getBuiltinModule("node:fs").readFileSync(`/proc/${pid}/stat`, "utf8"));
}

/** Whether a process with this pid runs: a zombie does not. */
export function isAlive(process: NodeProcess, pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as { code?: unknown }).code !== "EPERM") return false; // EPERM: another user's.
  }
  return !hasEnded(readStat(process, pid) ?? "");
}

/** What a service on Node or Bun needs at once. */
export function basicService(
  process: NodeProcess,
  loaded: Environment,
  onExit: BasicServiceAdapter["onExit"],
): BasicServiceAdapter {
  return {
    variable: (name) => loaded[name],
    files: () => nodeFiles(process),
    isAlive: (pid) => isAlive(process, pid),
    startTime(pid) {
      const stat = readStat(process, pid);
      return stat === undefined ? undefined : parseStartTime(stat);
    },
    onExit,
  };
}
