/** What stands for a container: a namespace of process ids, and a folder as the image has it. */
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { pinned } from "../pinned.mjs";
import type { TestScope } from "./clean_up.ts";
import { readmeProgram } from "./documentation.ts";
import { pathWith, provide, root } from "./package.ts";
import { allPids, parentOf } from "./proc.ts";
import { type Program, temporaryFolder } from "./program.ts";
import { type Runtime, runtimes } from "./runtimes.ts";
import { until } from "./wait.ts";

/** The runtime in the containers. */
export const runtime: Runtime | undefined = runtimes.find(({ name }) => name === "node26");
/** Why there can be no namespace. */
export const skip: string | false = (runtime === undefined && "not asked for") ||
  ((process.platform !== "linux" || process.getuid?.() !== 0) &&
    "it takes root on Linux to make a pid namespace");

/** Runs a command in a namespace of its own. */
export const namespace: readonly string[] = [
  "unshare",
  "--pid",
  "--fork",
  "--kill-child",
  "--mount-proc",
];

/** The text of an example. */
export const read = (name: string): string => readFileSync(join(root, "examples", name), "utf8");

/** The documents of an example in YAML. Bun has a parser. */
// deno-lint-ignore no-explicit-any
export function parseYaml(name: string): any {
  const code =
    `console.log(JSON.stringify(Bun.YAML.parse(await Bun.file(process.argv[1]).text())))`;
  return JSON.parse(
    execFileSync(pinned.bun, ["-e", code, join(root, "examples", name)], { encoding: "utf8" }),
  );
}

/** The command that a container of a Dockerfile runs. */
export function commandOf(dockerfile: string): string[] {
  const [, entry = ""] = /^ENTRYPOINT (.*)$/m.exec(dockerfile) ?? [];
  const [, command = ""] = /^CMD (.*)$/m.exec(dockerfile) ?? [];
  return [...JSON.parse(entry), ...JSON.parse(command)];
}

/** A folder as the image of examples/containers has it at /app, with the README's program. */
export async function createImage(
  t: TestScope,
  port: number,
): Promise<{ folder: string; path: string }> {
  const folder = temporaryFolder(t);
  await provide(folder);
  mkdirSync(join(folder, "src"));
  writeFileSync(join(folder, "src/main.ts"), readmeProgram(port));
  return { folder, path: pathWith(folder, { node: pinned.node26 }) };
}

/** Process 1 of the namespace: the child of unshare. */
export function initOf(program: Program): Promise<number> {
  return until("process 1", () => allPids().find((pid) => parentOf(pid) === program.process.pid));
}
