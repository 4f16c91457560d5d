/** Reloading on request over a named pipe: on Windows only a console can send signals. */
import { describeError } from "../core/describe_error.ts";
import type { ServiceAdapter } from "../core/service_adapter.ts";

/** The name of the pipe of a process. */
export function pipeName(pid: number): string {
  return `reload-self-${pid}`;
}

/** The request. */
export const RELOAD = "reload";

/** The answer: the new process, or why the reload failed. */
export type PipeAnswer = { pid: number; milliseconds: number } | { error: string };

/** Answers requests to reload this process. */
export function answerOnPipe(
  answer: NonNullable<ServiceAdapter["answer"]>,
  pid: number,
  now: () => number,
  reload: () => Promise<number>,
  warn: (message: string) => void,
): void {
  async function respond(request: string): Promise<PipeAnswer> {
    if (request !== RELOAD) return { error: "not understood" };
    const begun = now();
    try {
      return { pid: await reload(), milliseconds: Math.round(now() - begun) };
    } catch (error) {
      return { error: describeError(error) };
    }
  }
  answer(pipeName(pid), async (request) => JSON.stringify(await respond(request)))
    .catch((error) => warn(`\`reload-self reload ${pid}\` will not find this process: ${describeError(error)}`));
}
