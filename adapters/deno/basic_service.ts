import type { Files } from "../../core/files.ts";
import type { BasicServiceAdapter } from "../../core/service_adapter.ts";
import { parseStartTime } from "../../linux/proc.ts";
import { attempt } from "../attempt.ts";
import type { Environment } from "../environment.ts";
import type { NodeProcess } from "../node/channel.ts";
import type { DenoNamespace } from "./namespace.ts";
import type { Permissions } from "./permissions.ts";

/** What a service on Deno needs at once. */
export function basicService(
  deno: DenoNamespace,
  permissions: Permissions,
  loaded: Environment,
  files: Files,
): BasicServiceAdapter {
  return {
    variable: (name) => loaded[name],
    files: () => files,
    isAlive(pid) {
      if (permissions.seesProc) return attempt(() => deno.statSync(`/proc/${pid}`)) !== undefined;
      try {
        return (globalThis as unknown as { process: NodeProcess }).process.kill(pid, 0);
      } catch (error) {
        return (error as { code?: unknown }).code !== "ESRCH"; // Another user's, or Deno does not allow the question.
      }
    },
    startTime: (pid) =>
      permissions.seesProc ? attempt(() => parseStartTime(deno.readTextFileSync(`/proc/${pid}/stat`))) : undefined,
    onExit: (handler) => (globalThis as unknown as EventTarget).addEventListener("unload", handler),
  };
}
