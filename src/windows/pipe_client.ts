/** Requests to a named pipe. */
import { connect } from "node:net";

/** Why there is no answer: nobody serves the pipe, it takes too long, or the server ended. */
export type NoAnswer = "not served" | "timeout" | "ended";

/** Sends a line to a named pipe, and resolves with the line that comes back. Rejects with an Error whose `cause` is a {@linkcode NoAnswer}. */
export function requestOnPipe(name: string, request: string, timeout: number): Promise<string> {
  return new Promise((resolve, reject) => {
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
