/** Asking a process to reload by its named pipe, on Windows. */
import { connect } from "node:net";
import { type ControlAnswer, controlName, RELOAD } from "../service/control.ts";
import { Failure } from "./failure.ts";

/** Reloads a process, and resolves with what comes of it. */
export function askToReload(pid: number, timeout: number): Promise<{ to: number; milliseconds: number }> {
  return new Promise((resolve, reject) => {
    const pipe = connect(`\\\\.\\pipe\\${controlName(pid)}`, () => pipe.write(`${RELOAD}\n`));
    let text = "";
    pipe.setEncoding("utf8");
    pipe.setTimeout(timeout, () => {
      pipe.destroy();
      reject(new Failure(1, `process ${pid} has not reloaded within ${timeout / 1000} s`));
    });
    pipe.on("data", (data: string) => {
      text += data;
      if (!text.includes("\n")) return;
      pipe.destroy();
      const answer = JSON.parse(text) as ControlAnswer;
      if ("error" in answer) reject(new Failure(1, `reload failed: ${answer.error}. Process ${pid} goes on unchanged.`));
      else resolve({ to: answer.pid, milliseconds: answer.milliseconds });
    });
    pipe.on(
      "error",
      ({ message }) => reject(new Failure(2, `process ${pid} is no program that reloads itself, or not yours: ${message}`)),
    );
    pipe.on("close", () => reject(new Failure(1, `process ${pid} ended while it was to reload`)));
  });
}
