/** The package as users install it: the tarball, in an empty project. */
import { execFile } from "node:child_process";
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { build } from "../../tools/build.ts";

export const root: string = dirname(fileURLToPath(new URL("../../mod.ts", import.meta.url)));
export const run: typeof execFile.__promisify__ = promisify(execFile);

/**
 * Builds the package into `dist` below the folder, and packs it. Returns the path of the tarball.
 */
export async function pack(folder: string, env: NodeJS.ProcessEnv = process.env): Promise<string> {
  await build(join(folder, "dist"));
  await run("npm", ["pack", join(folder, "dist"), "--pack-destination", folder], { env });
  return join(folder, readdirSync(folder).find((name) => name.endsWith(".tgz")) as string);
}

/**
 * Installs what the lock file of a folder names. A download that stands still fails after half a
 * minute (npm waits for five), and the whole is tried three times: npm does not repeat a download
 * that has begun. The errors of all tries are thrown.
 */
export async function installLocked(
  folder: string,
  env: NodeJS.ProcessEnv = process.env,
): Promise<void> {
  const args = ["ci", "--no-audit", "--no-fund", "--fetch-timeout=30000"];
  const errors: unknown[] = [];
  while (errors.length < 3) {
    try {
      return void await run("npm", args, { cwd: folder, env });
    } catch (error) {
      errors.push(error);
    }
  }
  throw new AggregateError(errors, `npm ci in ${folder}: ${errors.join("\n")}`);
}

/** What the package depends on. */
export const DEPENDENCIES: readonly string[] = ["croner", "srvx"];

/**
 * A project in which a package manager has installed the tarball. Its dependencies come from here:
 * there may be no network.
 */
export async function install(
  manager: "npm" | "bun",
  tarball: string,
  folder: string,
  env: NodeJS.ProcessEnv = process.env,
): Promise<string> {
  const project = mkdtempSync(join(folder, `${manager}-`));
  const files = Object.fromEntries(DEPENDENCIES.map((name) => [name, `file:./${name}`]));
  for (const name of DEPENDENCIES) {
    cpSync(join(root, "node_modules", name), join(project, name), {
      recursive: true,
      dereference: true,
    });
    const manifest = join(project, name, "package.json");
    const { devDependencies: _, peerDependencies: __, ...rest } = JSON.parse(
      readFileSync(manifest, "utf8"),
    );
    writeFileSync(manifest, JSON.stringify(rest));
  }
  writeFileSync(
    join(project, "package.json"),
    JSON.stringify({
      type: "module",
      dependencies: { "@js0/reload-self": `file:${tarball}`, ...files },
      overrides: files,
    }),
  );
  const args = manager === "npm"
    ? ["install", "--offline", "--no-audit", "--no-fund"]
    : ["install", "--no-progress"];
  await run(manager, args, { cwd: project, env });
  return project;
}

/**
 * Puts the library as it is published, with its command, and packages that this project has, into
 * the node_modules of a folder.
 */
export async function provide(folder: string, ...others: string[]): Promise<void> {
  for (const name of ["@js0", ".bin"]) {
    mkdirSync(join(folder, "node_modules", name), { recursive: true });
  }
  await build(join(folder, "node_modules/@js0/reload-self"));
  symlinkSync("../@js0/reload-self/cli.js", join(folder, "node_modules/.bin/reload-self"));
  for (const name of others) {
    symlinkSync(join(root, "node_modules", name), join(folder, "node_modules", name));
  }
  const dependencies = Object.fromEntries(
    ["@js0/reload-self", ...others].map((name) => [name, "*"]),
  );
  writeFileSync(join(folder, "package.json"), JSON.stringify({ type: "module", dependencies }));
}

/**
 * Puts links to executables into `bin` below a folder, under the names that users type. Returns a
 * PATH that begins there.
 */
export function pathWith(folder: string, executables: Readonly<Record<string, string>>): string {
  const bin = join(folder, "bin");
  mkdirSync(bin);
  for (const [name, executable] of Object.entries(executables)) {
    symlinkSync(executable, join(bin, name));
  }
  return `${bin}${delimiter}${process.env.PATH}`;
}

/** A project with the files of the tarball and nothing else, without a package manager. */
export async function unpack(tarball: string, folder: string): Promise<string> {
  const project = mkdtempSync(join(folder, "unpacked-"));
  const target = join(project, "node_modules/@js0/reload-self");
  mkdirSync(target, { recursive: true });
  await run("tar", ["-xzf", tarball, "-C", target, "--strip-components=1"]);
  writeFileSync(join(project, "package.json"), JSON.stringify({ type: "module" }));
  return project;
}
