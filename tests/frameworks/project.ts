/** The project of the unmodified programs: their packages by the lock file, and this library as it is published. */
import { execFileSync } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { pinned } from "../pinned.mjs";
import { installLocked, pack, pathWith } from "../support/package.ts";

/** Where the programs are. */
export interface Project {
  readonly folder: string;
  /** A copy elsewhere of what needs none of the packages: npm would find this repository's own `node` first. */
  readonly apart: string;
  /** An environment whose PATH has the runtimes. */
  readonly env: NodeJS.ProcessEnv;
}

const folder = dirname(fileURLToPath(import.meta.url));

/** The programs that are built before they are started: the folder, the command, and what shows that it was done. */
const BUILDS:
  readonly (readonly [folder: string, command: string, args: readonly string[], done: string])[] = [
    ["next_app", "next", ["build"], ".next/BUILD_ID"],
    ["nitro_app", "nitropack", ["build"], ".output/server/index.mjs"],
    ["router_app", "react-router", ["build"], "build/server/index.js"],
  ];

/** Installs the packages and builds what has to be built, unless that was done, and installs the library. */
export async function prepare(): Promise<Project> {
  const temporary = mkdtempSync(join(tmpdir(), "reload-self-frameworks-"));
  process.on("exit", () => rmSync(temporary, { recursive: true, force: true }));
  const PATH = pathWith(temporary, { node: pinned.node24, bun: pinned.bun, deno: pinned.deno });
  const env = { ...process.env, PATH };
  const lock = readFileSync(join(folder, "package-lock.json"), "utf8");
  const mark = join(folder, "node_modules/.installed");
  if (!existsSync(mark) || readFileSync(mark, "utf8") !== lock) {
    await installLocked(folder, env);
    writeFileSync(mark, lock);
  }
  for (const [name, command, args, done] of BUILDS) {
    const cwd = join(folder, name);
    if (existsSync(join(cwd, done))) continue;
    const quiet = { ...env, NEXT_TELEMETRY_DISABLED: "1", CI: "1" };
    execFileSync(join(folder, "node_modules/.bin", command), args, {
      cwd,
      env: quiet,
      stdio: ["ignore", "ignore", "inherit"],
    });
  }
  const target = join(folder, "node_modules/@js0/reload-self");
  rmSync(target, { recursive: true, force: true });
  mkdirSync(target, { recursive: true });
  execFileSync("tar", ["-xzf", await pack(temporary, env), "-C", target, "--strip-components=1"]);
  for (const name of ["apps", "run_app"]) {
    cpSync(join(folder, name), join(temporary, name), { recursive: true });
  }
  symlinkSync(join(folder, "node_modules"), join(temporary, "node_modules"));
  return { folder, env, apart: temporary };
}
