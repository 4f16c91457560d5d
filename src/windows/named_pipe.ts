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
  serve: NonNullable<ServiceAdapter["serveNamedPipe"]>,
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
  serve(pipeName(pid), async (request) => JSON.stringify(await respond(request)))
    .catch((error) =>
      warn(`\`reload-self reload ${pid}\` will not find this process: ${describeError(error)}`)
    );
}

/** The most characters of a request. */
const MAX_REQUEST = 1_024;

/**
 * Answers requests on a named pipe, a line each. Windows lets only this user, the administrators
 * and the system write to it; CreateNamedPipe.
 */
export async function serveNamedPipe(
  name: string,
  answer: (request: string) => Promise<string>,
): Promise<void> {
  const { createServer } = await import("node:net");
  const server = createServer((socket) => {
    let text = "";
    socket.setEncoding("utf8");
    socket.on("error", () => {}); // It is gone: nobody waits for an answer.
    socket.on("data", async (data: string) => {
      const before = text;
      text += data;
      if (text.length > MAX_REQUEST) return socket.destroy();
      if (before.includes("\n") || !text.includes("\n")) return;
      socket.end(`${await answer(text.slice(0, text.indexOf("\n")))}\n`);
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(`\\\\.\\pipe\\${name}`, resolve);
  });
  server.unref();
}

/** Why there is no answer: nobody serves the pipe, it takes too long, or the server ended. */
export type NoAnswer = "not served" | "timeout" | "ended";

/**
 * Sends a line to a named pipe, and resolves with the line that comes back. Rejects with an Error
 * whose `cause` is a {@linkcode NoAnswer}.
 */
export async function requestOnPipe(
  name: string,
  request: string,
  timeout: number,
): Promise<string> {
  const { connect } = await import("node:net");
  return await new Promise((resolve, reject) => {
    const fail = (cause: NoAnswer, message: string) => reject(new Error(message, { cause }));
    const pipe = connect(`\\\\.\\pipe\\${name}`, () => pipe.write(`${request}\n`));
    let text = "";
    pipe.setEncoding("utf8");
    pipe.setTimeout(timeout, () => {
      pipe.destroy();
      fail("timeout", `no answer within ${timeout} ms`);
    });
    pipe.on("data", (data: string) => {
      text += data;
      if (!text.includes("\n")) return;
      pipe.destroy();
      resolve(text.slice(0, text.indexOf("\n")));
    });
    pipe.on("error", ({ message }) => fail("not served", message));
    pipe.on("close", () => fail("ended", "the pipe was closed"));
  });
}
