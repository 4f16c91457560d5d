/**
 * Builds the npm package into a folder: one file of JavaScript for each entry point, types, source maps, and a manifest. esbuild does it,
 * because it is one executable without dependencies, and keeps modules that are only imported later out of the way of the start.
 */
import { execFileSync } from "node:child_process";
import { chmodSync, cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { build as bundle, type BuildOptions, type Plugin } from "esbuild";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const entries = { mod: "mod.ts", serve: "serve.ts", cli: "cli/main.ts" };

/** The entry points import one another as files of the package: a class must exist only once. */
const separateEntries: Plugin = {
  name: "separate entries",
  setup({ onResolve }) {
    onResolve({ filter: /\/(mod|serve)\.ts$/ }, ({ path, kind }) => {
      if (kind === "entry-point") return undefined;
      return { path: path.replace(/^.*\/(mod|serve)\.ts$/, "./$1.js"), external: true };
    });
  },
};

/** The registry belongs to the process: the other files use that of `mod`, and do not contain the adapters once more. */
const sharedRegistry: Plugin = {
  name: "shared registry",
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /\/registry\.ts$/ }, ({ path }) => ({ path, namespace: "shared" }));
    onLoad({ filter: /./, namespace: "shared" }, () => ({
      contents: `import "./mod.js"; export const registry = globalThis[Symbol.for("@js0/reload-self")];`,
    }));
    onResolve({ filter: /^\.\/mod\.js$/, namespace: "shared" }, ({ path }) => ({ path, external: true }));
  },
};

/** Builds the package. Returns its version. */
export async function build(folder: string): Promise<string> {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const options: BuildOptions = {
    absWorkingDir: root,
    outdir: folder,
    bundle: true,
    format: "esm",
    platform: "neutral",
    target: "es2023",
    external: ["node:*", "srvx/node"],
    minify: true,
    sourcemap: true,
    sourcesContent: true,
    legalComments: "none",
  };
  const { mod, ...others } = entries;
  await bundle({ ...options, entryPoints: { mod } });
  await bundle({ ...options, entryPoints: others, plugins: [separateEntries, sharedRegistry] });
  const tsc = join(root, "node_modules/typescript/bin/tsc");
  const declarations = ["--noEmit", "false", "--emitDeclarationOnly", "--rootDir", root, "--outDir", join(folder, "types")];
  execFileSync(process.execPath, [tsc, "-p", join(root, "tools/types.json"), ...declarations], { stdio: "inherit" });
  for (const name of ["README.md", "CHANGELOG.md", "LICENSE"]) cpSync(join(root, name), join(folder, name));
  const manifest = createManifest();
  writeFileSync(join(folder, "package.json"), `${JSON.stringify(manifest, null, 2)}\n`);
  chmodSync(join(folder, "cli.js"), 0o755);
  return manifest.version;
}

function createManifest() {
  const read = (name: string) => JSON.parse(readFileSync(join(root, name), "utf8"));
  const { name, version, license } = read("deno.json");
  const { dependencies, engines } = read("package.json");
  const entry = (name: string, types: string) => ({ types: `./types/${types}.d.ts`, default: `./${name}.js` });
  return {
    name,
    version,
    description: "Zero-downtime reloads for servers on Deno, Bun and Node",
    license,
    type: "module",
    engines,
    exports: { ".": entry("mod", "mod"), "./serve": entry("serve", "serve"), "./cli": entry("cli", "cli/main") },
    bin: { "reload-self": "./cli.js" },
    dependencies,
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const folder = join(root, process.argv[2] ?? "dist");
  const version = await build(folder);
  console.log(`built ${version} in ${folder}; npm pack ${folder} makes the tarball`);
}
