/** The project of the unmodified programs: their packages by the lock file, and this library as it is published. */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { pinned } from "../pinned.mjs";
import { pack, pathWith } from "../support/package.ts";

/** Where the programs are. */
export interface Project {
  readonly folder: string;
  /** An environment whose PATH has the runtimes. */
  readonly env: NodeJS.ProcessEnv;
}

const folder = dirname(fileURLToPath(import.meta.url));

/** Installs the packages, unless they are there, and the library. */
export async function prepare(): Promise<Project> {
  const temporary = mkdtempSync(join(tmpdir(), "reload-self-frameworks-"));
  process.on("exit", () => rmSync(temporary, { recursive: true, force: true }));
  const PATH = pathWith(temporary, { node: pinned.node24, bun: pinned.bun, deno: pinned.deno });
  const env = { ...process.env, PATH };
  const lock = readFileSync(join(folder, "package-lock.json"), "utf8");
  const mark = join(folder, "node_modules/.installed");
  if (!existsSync(mark) || readFileSync(mark, "utf8") !== lock) {
    execFileSync("npm", ["ci", "--no-audit", "--no-fund"], { cwd: folder, env, stdio: ["ignore", "ignore", "inherit"] });
    writeFileSync(mark, lock);
  }
  const target = join(folder, "node_modules/@js0/reload-self");
  rmSync(target, { recursive: true, force: true });
  mkdirSync(target, { recursive: true });
  execFileSync("tar", ["-xzf", await pack(temporary, env), "-C", target, "--strip-components=1"]);
  return { folder, env };
}
