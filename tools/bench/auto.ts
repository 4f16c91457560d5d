/**
 * What the preload costs a program that knows nothing of it: its start, and its requests. From the
 * tarball.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { median } from "../../tests/support/median.ts";
import type { Runtime } from "../../tests/support/runtimes.ts";

/** The programs: they say when they listen. */
const PROGRAMS = {
  http:
    `import { createServer } from "node:http";\ncreateServer().listen(PORT, "127.0.0.1", () => console.log("up"));\n`,
  bun: `Bun.serve({ port: PORT, fetch: () => new Response() });\nconsole.log("up");\n`,
  deno: `Deno.serve({ port: PORT, onListen: () => console.log("up") }, () => new Response());\n`,
};
/** Outside of the range from which the kernel chooses. */
const PORT = "9753";

/** The arguments that preload it. */
export function preloadOf(runtime: Runtime, project: string): string[] {
  const path = join(project, "node_modules/@js0/reload-self/auto.js");
  return [runtime.kind === "node" ? "--import" : "--preload", path];
}

async function untilUp(command: readonly string[], cwd: string): Promise<number> {
  const begun = performance.now();
  const [file = "", ...args] = command;
  const child = spawn(file, args, { cwd, stdio: ["ignore", "pipe", "inherit"] });
  await once(child.stdout, "data");
  const milliseconds = performance.now() - begun;
  child.kill("SIGKILL");
  await once(child, "exit");
  return milliseconds;
}

/** The medians of the starts until the server listens, and of the differences of each pair. */
export async function autoStart(
  runtime: Runtime,
  project: string,
  kind: keyof typeof PROGRAMS,
  rounds: number,
): Promise<{ bare: number; added: number }> {
  const program = `auto-${kind}.mjs`;
  writeFileSync(join(project, program), PROGRAMS[kind].replace("PORT", PORT));
  const bare: number[] = [];
  const added: number[] = [];
  for (let i = -1; i < rounds; i++) {
    const without = await untilUp([runtime.executable, ...runtime.flags, program], project);
    const preloaded = await untilUp([
      runtime.executable,
      ...runtime.flags,
      ...preloadOf(runtime, project),
      program,
    ], project);
    if (i < 0) continue; // That fills the caches.
    bare.push(without);
    added.push(preloaded - without);
  }
  return { bare: median(bare), added: median(added) };
}
