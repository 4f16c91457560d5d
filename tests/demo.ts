/** Shows a reload happening: starts the example with each runtime, sends SIGHUP, and tells the old pid and the new one. */
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { pinned } from "./pinned.mjs";

const example = fileURLToPath(new URL("../examples/loop.ts", import.meta.url));
const commands: [name: string, command: string[]][] = [
  ["Node", [pinned.node26, example]],
  ["Deno", [pinned.deno, "run", "--quiet", "--allow-env", `--allow-run=${pinned.deno}`, example]],
  ["Bun", [pinned.bun, example]],
];

for (const [name, [file, ...args]] of commands) {
  console.log(
    `\n${name}: ${
      [
        name.toLowerCase(),
        ...args.slice(0, -1).map((arg) => arg.replace(pinned.deno, "deno")),
        "examples/loop.ts",
      ].join(" ")
    }`,
  );
  const child = spawn(file as string, args, { stdio: ["ignore", "pipe", "inherit"] });
  let sentAt = 0;
  let old: string | undefined;
  let next: string | undefined;
  let hasLeft = false;
  for await (const line of createInterface({ input: child.stdout })) {
    console.log(`  ${line}`);
    const [, pid, generation] = /^pid (\d+), generation (\d+): round 1$/.exec(line) ?? [];
    if (pid !== undefined && generation === "0") {
      console.log(`  $ kill -HUP ${pid}`);
      old = pid;
      sentAt = performance.now();
      process.kill(Number(pid), "SIGHUP");
    } else if (pid !== undefined) {
      next = pid;
      console.log(`  --- old pid ${old}, new pid ${next}, ${Math.round(performance.now() - sentAt)} ms after the signal ---`);
    }
    hasLeft ||= line.includes("replaced by");
    if (next !== undefined && hasLeft) {
      console.log(`  $ kill ${next}`);
      process.kill(Number(next), "SIGTERM");
      hasLeft = false;
    }
  }
  if (next === undefined) {
    console.error(`${name}: the example ended before it was replaced`);
    process.exitCode = 1;
  }
}
