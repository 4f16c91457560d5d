import type { Files } from "../../src/core/files.ts";
import type { BasicServiceAdapter } from "../../src/core/service_adapter.ts";
import { parseStartTime } from "../../src/linux/proc.ts";
import { attempt } from "../../src/core/attempt.ts";
import type { Environment } from "../shared/environment.ts";
import type { NodeProcess } from "../shared/node_channel.ts";
import type { DenoNamespace } from "./namespace.ts";
import type { Permissions } from "./permissions.ts";

/** Whether there is a process with this pid; `undefined` where /proc cannot be seen. */
export function isInProc(deno: DenoNamespace, { seesProc }: Permissions, pid: number): boolean | undefined {
  return seesProc ? attempt(() => deno.statSync(`/proc/${pid}`)) !== undefined : undefined;
}

/** What a service on Deno needs at once. */
export function basicService(
  deno: DenoNamespace,
  permissions: Permissions,
  loaded: Environment,
  files: Files,
  onExit: BasicServiceAdapter["onExit"],
): BasicServiceAdapter {
  return {
    variable: (name) => loaded[name],
    files: () => files,
    isAlive(pid) {
      const isThere = isInProc(deno, permissions, pid);
      if (isThere !== undefined) return isThere;
      try {
        return (globalThis as unknown as { process: NodeProcess }).process.kill(pid, 0);
      } catch (error) {
        return (error as { code?: unknown }).code !== "ESRCH"; // Another user's, or Deno does not allow the question.
      }
    },
    startTime: (pid) =>
      permissions.seesProc ? attempt(() => parseStartTime(deno.readTextFileSync(`/proc/${pid}/stat`))) : undefined,
    onExit,
  };
}
