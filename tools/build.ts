/**
 * Builds what is published into one folder, for npm and for JSR: a file of JavaScript for each entry point, with its source map. npm gets
 * declarations of the types, JSR the sources, from which it makes its documentation. esbuild does it, because it is one executable without
 * dependencies, and keeps modules that are only imported later out of the way of the start.
 */
import { execFileSync } from "node:child_process";
import { chmodSync, cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { build as bundle, type BuildOptions, type Plugin } from "esbuild";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const entries = { mod: "mod.ts", serve: "serve.ts", cli: "cli/main.ts" };
type Entry = keyof typeof entries;
/** The folders of the library; the entry points are beside them. */
const folders = ["adapters", "cli", "core", "drain", "handovers", "linux", "program", "reload", "windows"];
const documents = [
  "README.md",
  "README.zh.md",
  "CHANGELOG.md",
  "ARCHITECTURE.md",
  "CONTRIBUTING.md",
  "LICENSE",
  "docs",
  "examples/systemd",
];

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
  for (const name of Object.keys(entries) as Entry[]) {
    await bundle({
      ...options,
      entryPoints: { [name]: entries[name] },
      banner: { js: `/* @ts-self-types="./src/${entries[name]}" */` },
      plugins: name === "mod" ? [] : [separateEntries, sharedRegistry],
    });
  }
  const tsc = join(root, "node_modules/typescript/bin/tsc");
  const declarations = ["--noEmit", "false", "--emitDeclarationOnly", "--rootDir", root, "--outDir", join(folder, "types")];
  execFileSync(process.execPath, [tsc, "-p", join(root, "tools/types.json"), ...declarations], { stdio: "inherit" });
  for (const name of documents) cpSync(join(root, name), join(folder, name), { recursive: true });
  for (const name of [...folders, "mod.ts", "serve.ts"]) {
    cpSync(join(root, name), join(folder, "src", name), { recursive: true });
  }
  const { npm, jsr } = createManifests();
  writeFileSync(join(folder, "package.json"), `${JSON.stringify(npm, null, 2)}\n`);
  writeFileSync(join(folder, "deno.json"), `${JSON.stringify(jsr, null, 2)}\n`);
  chmodSync(join(folder, "cli.js"), 0o755);
  return npm.version;
}

/** The manifests of both registries, made of those of the repository: the version is in deno.json alone. */
function createManifests() {
  const read = (name: string) => JSON.parse(readFileSync(join(root, name), "utf8"));
  const { name, version, license, imports, compilerOptions } = read("deno.json");
  const { dependencies, engines } = read("package.json");
  const keys = Object.entries(entries).map(([name, source]) => ({ key: name === "mod" ? "." : `./${name}`, name, source }));
  const files = keys.flatMap(({ name }) => [`${name}.js`, `${name}.js.map`]);
  const npm = {
    name,
    version,
    description: "Zero-downtime reloads for servers on Deno, Bun and Node",
    license,
    type: "module",
    engines,
    exports: Object.fromEntries(keys.map(({ key, name, source }) => [
      key,
      { types: `./types/${source.replace(/\.ts$/, ".d.ts")}`, default: `./${name}.js` },
    ])),
    bin: { "reload-self": "./cli.js" },
    files: [...files, "types", ...documents],
    dependencies,
  };
  const jsr = {
    name,
    version,
    license,
    exports: Object.fromEntries(keys.map(({ key, name }) => [key, `./${name}.js`])),
    imports: { "srvx/node": imports["srvx/node"] },
    compilerOptions,
    publish: { include: [...files, "src", ...documents, "deno.json"] },
  };
  return { npm, jsr };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const folder = join(root, process.argv[2] ?? "dist");
  const version = await build(folder);
  console.log(`built ${version} in ${folder}; npm pack ${folder} makes the tarball`);
}
