import { describeError } from "../core/error.ts";
import type { ServiceAdapter } from "../core/service_adapter.ts";

/** The name under which a process is asked to reload where signals do not reach it: on Windows, where only a console sends them. */
export function controlName(pid: number): string {
  return `reload-self-${pid}`;
}

/** What is asked. */
export const RELOAD = "reload";

/** What is answered: the new process, or why it failed. */
export type ControlAnswer = { pid: number; milliseconds: number } | { error: string };

/** Answers who asks this process to reload. */
export function createControl(
  adapter: ServiceAdapter,
  pid: number,
  now: () => number,
  reload: () => Promise<number>,
  warn: (line: string) => void,
): void {
  adapter.answer?.(controlName(pid), async (question) => {
    if (question !== RELOAD) return JSON.stringify({ error: "not understood" });
    const begun = now();
    try {
      return JSON.stringify({ pid: await reload(), milliseconds: Math.round(now() - begun) });
    } catch (error) {
      return JSON.stringify({ error: describeError(error) });
    }
  }).catch((error) => warn(`\`reload-self reload ${pid}\` will not find this process: ${describeError(error)}`));
}
