import type { BasicServiceAdapter } from "../../src/core/service_adapter.ts";
import { hasEnded, parseStartTime } from "../../src/linux/proc.ts";
import { attempt } from "../../src/core/attempt.ts";
import type { Environment } from "./environment.ts";
import type { NodeProcess } from "./node_channel.ts";
import { nodeFiles } from "./node_files.ts";

/** The working directory; where it was removed, the path that it had. */
export function workingDirectory(
  process: { cwd(): string; readonly env: Environment },
): string {
  return attempt(() => process.cwd()) ?? process.env.PWD ?? "/";
}

/** Whether a process with this pid runs: a zombie does not. */
export function isAlive(process: NodeProcess, pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as { code?: unknown }).code !== "EPERM") return false; // EPERM: another user's.
  }
  return !hasEnded(readProc(process, pid, "stat") ?? "");
}

/**
 * A file of a process in /proc; `undefined` where it cannot be read. Wine has a /proc too, of other
 * processes.
 */
export function readProc(
  process: NodeProcess,
  who: number | "self",
  name: string,
): string | undefined {
  if (process.platform === "win32") return undefined;
  return attempt(() =>
    process.getBuiltinModule("node:fs").readFileSync(`/proc/${who}/${name}`, "utf8")
  );
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
    startTime: (pid) => parseStartTime(readProc(process, pid, "stat") ?? ""),
    onExit,
  };
}
