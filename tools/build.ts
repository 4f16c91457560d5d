/**
 * Builds what is published into one folder, for npm and for JSR: a file of JavaScript for each
 * entry point, and one for each part that is loaded later, with their source maps. npm gets
 * declarations of the types, JSR the sources, from which it makes its documentation. esbuild does
 * it, because it is one executable without dependencies.
 */
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  cpSync,
  existsSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { build as bundle, type BuildOptions, type Plugin } from "esbuild";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const read = (name: string) => JSON.parse(readFileSync(join(root, name), "utf8"));
/** The entry points, by the names of their files in the package: those that jsr.json exports. */
const entries: Readonly<Record<string, string>> = Object.fromEntries(
  Object.entries<string>(read("jsr.json").exports).map((
    [key, source],
  ) => [key === "." ? "mod" : key.slice(2), source.slice(2)]),
);
/** Those that CommonJS can require. The command line is a program. */
const { cli: _, ...required } = entries;
/**
 * Where a workflow builds it from. npm takes a statement of provenance only with the same address
 * in the manifest.
 */
const { GITHUB_SERVER_URL, GITHUB_REPOSITORY } = process.env;
const repositoryUrl = GITHUB_REPOSITORY && `${GITHUB_SERVER_URL}/${GITHUB_REPOSITORY}`;
/** What `mod` loads when the program has started, and `cli` when the runtime can load it. */
const later = {
  commands: "cli/commands.ts",
  cli_triggers: "cli/triggers.ts",
  serve_triggers: "cli/serve_triggers.ts",
  reloading: "src/program/compose.ts",
  node: "adapters/node/complete.ts",
  bun: "adapters/bun/complete.ts",
  deno: "adapters/deno/complete.ts",
};
/** The folders of the library; the entry points are beside them. */
const folders = ["adapters", "cli", "src"];
const documents = [
  "README.md",
  "README.zh.md",
  "CHANGELOG.md",
  "ARCHITECTURE.md",
  "CONTRIBUTING.md",
  "LICENSE",
  "docs",
  "examples",
];

/**
 * The files import one another as files of the package: a class, or the state of a module, must
 * exist only once. What a file that is loaded later has in common with `mod` it contains once more,
 * but for what `shared` names.
 */
const separateFiles = (shared: Readonly<Record<string, string>>): Plugin => ({
  name: "separate files",
  setup({ onResolve, onLoad }) {
    const byPath = (files: object) =>
      new Map(Object.entries(files).map(([name, source]) => [join(root, source), name]));
    const files = {
      "import-statement": byPath(entries),
      "dynamic-import": byPath({ ...entries, ...later }),
    };
    onResolve({ filter: /\.ts$/ }, ({ path, kind, resolveDir }) => {
      const source = resolve(resolveDir, path);
      const name = kind in files ? files[kind as keyof typeof files].get(source) : undefined;
      if (name !== undefined) return { path: `./${name}.js`, external: true };
      return source in shared ? { path: source, namespace: "shared" } : undefined;
    });
    onResolve(
      { filter: /^\.\/mod\.js$/, namespace: "shared" },
      ({ path }) => ({ path, external: true }),
    );
    onLoad(
      { filter: /./, namespace: "shared" },
      ({ path }) => ({ contents: shared[path] as string }),
    );
  },
});

/**
 * Modules of `mod` that the other files use from there: the class of the errors, and what belongs
 * to the process.
 */
const shared: Readonly<Record<string, string>> = {
  [join(root, "src/core/error.ts")]: `export { ReloadError } from "./mod.js";`,
  [join(root, "adapters/registry.ts")]:
    `import "./mod.js"; export const registry = globalThis[Symbol.for("@js0/reload-self")];`,
};

const modules: BuildOptions = {
  absWorkingDir: root,
  bundle: true,
  platform: "neutral",
  target: "es2023",
  external: ["node:*", "croner", "srvx/node"],
  minify: false, // An uncaught error shows its line, and the names of the functions that led to it.
  legalComments: "none",
};

async function bundleAll(
  options: BuildOptions,
  sources: Readonly<Record<string, string>>,
): Promise<void> {
  for (const [name, source] of Object.entries(sources)) {
    await bundle({
      ...modules,
      ...options,
      entryPoints: { [name]: source },
      banner: name in entries && options.format === "esm"
        ? { js: `/* @ts-self-types="./${source}" */` }
        : {},
      plugins: [separateFiles(name === "mod" ? {} : shared)],
    });
  }
}

/** Builds the package. Returns its version. */
export async function build(folder: string): Promise<string> {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  await bundleAll({ outdir: folder, format: "esm", sourcemap: true, sourcesContent: true }, {
    ...entries,
    ...later,
  });
  const commonJs = join(folder, "cjs");
  await bundleAll({ outdir: commonJs, format: "cjs", supported: { "dynamic-import": false } }, {
    ...required,
    reloading: later.reloading,
    node: later.node,
  });
  writeFileSync(join(commonJs, "package.json"), `{ "type": "commonjs" }\n`);
  writeTypes(folder);
  copyDocuments(folder);
  for (
    const name of [
      ...folders,
      ...Object.values(entries).filter((source) => !source.includes("/")),
    ]
  ) {
    cpSync(join(root, name), join(folder, name), { recursive: true });
  }
  const { npm, jsr } = createManifests();
  writeFileSync(join(folder, "package.json"), `${JSON.stringify(npm, null, 2)}\n`);
  // No deno.json beside it: `deno publish` would ignore this one (denoland/deno#22651).
  writeFileSync(join(folder, "jsr.json"), `${JSON.stringify(jsr, null, 2)}\n`);
  chmodSync(join(folder, "cli.js"), 0o755);
  return npm.version;
}

/** Copies the documents, as they are to be read in the package. */
function copyDocuments(folder: string): void {
  const isWanted = (path: string) =>
    !/\/(package-lock\.json|node_modules|build|dist|\.[\w-]+)$/.test(path);
  for (const name of documents) {
    cpSync(join(root, name), join(folder, name), { recursive: true, filter: isWanted });
  }
  const isPackaged = (path: string) =>
    existsSync(join(folder, path)) && documents.includes(path.split("/")[0] as string);
  for (const file of globSync(["*.md", "{docs,examples}/**/*.{md,ts,mjs,js}"], { cwd: folder })) {
    const text = readFileSync(join(folder, file), "utf8");
    const changed = file.endsWith(".md")
      // What only the repository has cannot be followed from here.
      ? text.replaceAll(
        /\[([^\]]+)\]\((?!https?:|#)([^)#\s]+)[^)\s]*\)/g,
        (link, label, to) => isPackaged(join(dirname(file), to)) ? link : label,
      )
      : text.replaceAll(
        /"(?:\.\.\/)+(\w+)\.ts"/g,
        (path, name) => name in entries ? `"${specifierOf(name)}"` : path,
      );
    if (changed !== text) writeFileSync(join(folder, file), changed);
  }
}

/** How programs import an entry point. */
function specifierOf(name: string): string {
  return `${read("jsr.json").name}${name === "mod" ? "" : `/${name}`}`;
}

/**
 * Writes the declarations that the entry points need, for modules, and once more for CommonJS:
 * TypeScript asks for the same kind of file.
 */
function writeTypes(folder: string): void {
  const all = mkdtempSync(join(tmpdir(), "reload-self-types-"));
  const tsc = join(root, "node_modules/typescript/bin/tsc");
  const declarations = [
    "--noEmit",
    "false",
    "--emitDeclarationOnly",
    "--rootDir",
    root,
    "--outDir",
    all,
  ];
  execFileSync(process.execPath, [tsc, "-p", join(root, "tools/types.json"), ...declarations], {
    stdio: "inherit",
  });
  const seen = new Set<string>();
  const copy = (file: string, targets: readonly string[]) => {
    if (seen.has(file)) return;
    seen.add(file);
    const text = readFileSync(join(all, file), "utf8");
    for (const target of targets) {
      mkdirSync(dirname(join(target, file)), { recursive: true });
      writeFileSync(join(target, file), text);
    }
    for (const [, from = ""] of text.matchAll(/(?:from |import\()"(\.[^"]+)\.ts"/g)) {
      copy(join(dirname(file), `${from}.d.ts`), targets);
    }
  };
  const declarationOf = (source: string) => source.replace(/\.ts$/, ".d.ts");
  for (const source of Object.values(required)) {
    copy(declarationOf(source), [join(folder, "types"), join(folder, "cjs/types")]);
  }
  for (const source of Object.values(entries)) copy(declarationOf(source), [join(folder, "types")]);
  rmSync(all, { recursive: true });
}

/**
 * Where an entry point is. What can require modules gets the one file, however it is asked for:
 * `module-sync` is Node's name for that, from 22.12 on. CommonJS is for what cannot, such as Jest.
 */
function exportsOf(name: string, source: string): object {
  const module = { types: `./types/${source.replace(/\.ts$/, ".d.ts")}`, default: `./${name}.js` };
  if (!(name in required)) return module;
  return {
    import: module,
    "module-sync": module,
    bun: module,
    deno: module,
    require: { types: `./cjs/types/${name}.d.ts`, default: `./cjs/${name}.js` },
    default: module,
  };
}

/**
 * The manifests of both registries, made of those of the repository: the version is in jsr.json
 * alone.
 */
function createManifests() {
  const { name, version, license } = read("jsr.json");
  const { imports } = read("deno.json");
  const { dependencies, engines } = read("package.json");
  const keys = Object.entries(entries).map(([name, source]) => ({
    key: name === "mod" ? "." : `./${name}`,
    name,
    source,
  }));
  const files = Object.keys({ ...entries, ...later }).flatMap((
    name,
  ) => [`${name}.js`, `${name}.js.map`]);
  const npm = {
    name,
    version,
    description: "Zero-downtime reloads for servers on Deno, Bun and Node",
    license,
    repository: repositoryUrl && { type: "git", url: `git+${repositoryUrl}.git` },
    type: "module",
    engines,
    main: "./cjs/mod.js",
    types: "./cjs/types/mod.d.ts",
    // TypeScript reads this with `moduleResolution: node10`, which knows no exports.
    typesVersions: {
      "*": Object.fromEntries(
        Object.keys(required).slice(1).map((name) => [name, [`./cjs/types/${name}.d.ts`]]),
      ),
    },
    exports: {
      ...Object.fromEntries(keys.map(({ key, name, source }) => [key, exportsOf(name, source)])),
      "./package.json": "./package.json",
    },
    bin: { "reload-self": "./cli.js" },
    files: [...files, "types", "cjs", ...documents],
    dependencies,
  };
  const sources = Object.values(entries).filter((source) => !source.includes("/"));
  const jsr = {
    name,
    version,
    license,
    exports: Object.fromEntries(keys.map(({ key, name }) => [key, `./${name}.js`])),
    imports: { croner: imports.croner, "srvx/node": imports["srvx/node"] },
    publish: { include: [...files, ...folders, ...sources, ...documents, "jsr.json"] },
  };
  return { npm, jsr };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const folder = resolve(root, process.argv[2] ?? "dist");
  const version = await build(folder);
  console.log(`built ${version} in ${folder}`);
}
