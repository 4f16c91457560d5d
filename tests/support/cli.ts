import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { Runtime } from "./runtimes.ts";

/** The command that runs the command line tool. */
export function cli(runtime: Runtime): string[] {
  return [
    runtime.executable,
    ...runtime.flags,
    fileURLToPath(new URL("../../cli/main.ts", import.meta.url)),
  ];
}

/** What a run of the tool came to. */
export interface Result {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** Runs the tool to its end. */
export function runCli(
  runtime: Runtime,
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<Result> {
  const [file, ...rest] = cli(runtime);
  const child = spawn(file as string, [...rest, ...args], {
    env: { ...process.env, NO_COLOR: "1", ...env },
    stdio: ["ignore", "pipe", "pipe"],
    timeout: 60_000,
  });
  const result = { stdout: "", stderr: "" };
  child.stdout.on("data", (data) => result.stdout += data);
  child.stderr.on("data", (data) => result.stderr += data);
  return new Promise((resolve) => child.once("close", (code) => resolve({ code, ...result })));
}
