/** `reload-self run --auto`: the preload in the environment of all that runs below. */
import { basename } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { readOptions } from "../src/auto/options.ts";
import { describeError } from "../src/core/describe_error.ts";
import { Failure, time, type Values } from "./options.ts";

/** The options of the command that are variables of the environment for the preload. */
const VARIABLES: Readonly<Record<string, string>> = {
  "drain-timeout": "RELOAD_SELF_DRAIN_TIMEOUT",
  "ready-timeout": "RELOAD_SELF_READY_TIMEOUT",
  probation: "RELOAD_SELF_PROBATION",
};

/** The options, for the help. */
export const AUTO_OPTIONS = {
  auto: {
    type: "boolean",
    help: "reload a program that does not call listen(): all its servers are handed over",
  },
  "drain-timeout": {
    type: "string",
    value: "<time>",
    help: "with --auto: what is under way may take so long. Default: 30s",
  },
  "ready-timeout": {
    type: "string",
    value: "<time>",
    help: "with --auto: a new process must be in charge by then. Default: 60s",
  },
  probation: {
    type: "string",
    value: "<time>",
    help: "with --auto: the probation of a new process. Default: 1s",
  },
} as const;

/** The preload: beside this file as it is published, or a folder above it. */
function preload(): URL {
  return new URL(import.meta.url.endsWith(".ts") ? "../auto.ts" : "./auto.js", import.meta.url);
}

/** Puts an option behind those that a variable has. */
const more = (name: string, option: string) =>
  [process.env[name], option].filter(Boolean).join(" ");

/**
 * Sets the variables by which the runtimes load the preload, and its options. Returns the command,
 * in which it is for Deno: no variable does it there.
 */
export function prepareAuto(
  command: readonly string[],
  values: Values,
  log: (line: string) => void,
): readonly string[] {
  const given = Object.keys(VARIABLES).filter((name) => values[name] !== undefined);
  if (values.auto !== true) {
    if (given[0] !== undefined) throw new Failure(2, `run: --${given[0]} is an option of --auto`);
    return command;
  }
  for (const name of given) {
    process.env[VARIABLES[name] as string] = `${time(name, values[name], 0)}ms`;
  }
  try {
    readOptions((name) => process.env[name]);
  } catch (error) {
    throw new Failure(2, `run: ${describeError(error)}`);
  }
  const url = preload();
  // Deno has it from JSR. Node and Bun load files only.
  if (url.protocol !== "file:") return withPreload(command, url.href, log);
  process.env.NODE_OPTIONS = more("NODE_OPTIONS", `--import=${url.href}`);
  process.env.BUN_OPTIONS = more("BUN_OPTIONS", `"--preload=${fileURLToPath(url)}"`);
  return basename(command[0] ?? "") === "deno"
    ? withPreload(command, fileURLToPath(url), log)
    : command;
}

/** The command with the preload in it. */
function withPreload(
  command: readonly string[],
  where: string,
  log: (line: string) => void,
): readonly string[] {
  const [file = "", subcommand, ...rest] = command;
  if (basename(file) !== "deno") {
    throw new Failure(
      2,
      "run: --auto has a preload for Node and Bun only where this package is installed from npm",
    );
  }
  if (subcommand === "run") return [file, subcommand, "--preload", where, ...rest];
  if (subcommand === "serve") {
    throw new Failure(
      2,
      "run: `deno serve` takes no preload: import @js0/reload-self/auto in the first line of the module, or use `reload-self serve`",
    );
  }
  log(
    "Deno takes no preload from the environment: the task has to have it, as in " +
      "`deno run --preload npm:@js0/reload-self/auto main.ts`. Node and Bun below it have it already",
  );
  return command;
}
