/** Format, lint, types, docs, layers: what tools find without running a test. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync, globSync, readFileSync } from "node:fs";
import { dirname, relative, resolve } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { VERSION } from "../../cli/version.ts";
import { pinned } from "../pinned.mjs";

const root = dirname(fileURLToPath(new URL("../../mod.ts", import.meta.url)));
const run = promisify(execFile);

/** Runs a tool, and shows all that it says when it fails. */
async function succeeds(file: string, args: string[]): Promise<void> {
  // Without package.json: Deno would take the types in node_modules for a part of the program, and
  // complain about them. And without what makes Node take a test runner for one that was started by
  // mistake from a test, and skip it all.
  const { NODE_TEST_CONTEXT: _, ...rest } = process.env;
  const env = { ...rest, NO_COLOR: "1", DENO_NO_PACKAGE_JSON: "1", DENO_NO_UPDATE_CHECK: "1" };
  try {
    await run(file, args, { cwd: root, env, maxBuffer: 2 ** 26 });
  } catch (error) {
    const { stdout, stderr } = error as { stdout: string; stderr: string };
    assert.fail(`${args.join(" ")}\n${stdout}\n${stderr}`);
  }
}

const json = (name: string) => JSON.parse(readFileSync(`${root}/${name}`, "utf8"));
/** The entry points of the package. */
const entries = Object.values<string>(json("jsr.json").exports);
const examples = globSync("examples/**/*.ts", { cwd: root }).filter((name) =>
  !name.startsWith("examples/deno/")
);

const checks: [name: string, file: string, args: string[]][] = [
  ["tsc --noEmit", process.execPath, [
    `${root}/node_modules/typescript/bin/tsc`,
    "--noEmit",
    "-p",
    ".",
  ]],
  ["deno check", pinned.deno, [
    "check",
    "--quiet",
    ...entries,
    ...examples,
  ]],
  ["deno check of the examples in doc comments", pinned.deno, [
    "check",
    "--quiet",
    "--doc",
    ...entries.filter((name) => name !== "./cli/main.ts"),
    "src/core/error.ts",
    "src/core/token.ts",
  ]],
  ["deno lint", pinned.deno, ["lint", "--quiet"]],
  ["deno fmt --check", pinned.deno, ["fmt", "--quiet", "--check"]],
  ["deno doc --lint", pinned.deno, [
    "doc",
    "--quiet",
    "--lint",
    ...entries,
  ]],
];
for (const [name, file, args] of checks) test(name, () => succeeds(file, args));

test("jsr.json, cli/version.ts and CHANGELOG.md agree", () => {
  const { version } = json("jsr.json");
  assert.equal(VERSION, version);
  const [, newest] = /^## (\S+)/m.exec(readFileSync(`${root}/CHANGELOG.md`, "utf8")) ?? [];
  assert.equal(newest, version);
});

/**
 * What each folder of the library may import, besides itself and the types of the runtimes. The
 * arrows point one way.
 */
const layers: Record<string, readonly string[]> = {
  "src/core": [],
  "src/linux": ["src/core"],
  "src/windows": ["src/core"],
  "src/drain": ["src/core"],
  "src/triggers": ["src/core"],
  "src/protocol": ["src/core"],
  "src/resources": ["src/core", "src/protocol", "src/drain"],
  "src/reload": ["src/core", "src/protocol", "src/resources", "src/drain"],
  "src/sockets": [
    "src/core",
    "src/protocol",
    "src/resources",
    "src/reload",
    "src/drain",
    "src/linux",
  ],
  "src/connections": [
    "src/core",
    "src/protocol",
    "src/resources",
    "src/reload",
    "src/drain",
    "src/linux",
    "src/sockets",
  ],
  "src/service": ["src/core", "src/protocol", "src/reload", "src/sockets", "src/windows"],
  "src/program": [
    "src/core",
    "src/protocol",
    "src/resources",
    "src/reload",
    "src/drain",
    "src/connections",
    "src/sockets",
    "src/service",
  ],
  adapters: ["src/core", "src/protocol", "src/reload", "src/linux", "src/windows"],
  "src/connections/web_sockets": ["src/core", "src/drain", "src/linux", "adapters"],
  "src/auto": ["src/core", "adapters"],
  ".": [
    "src/auto",
    "src/core",
    "src/program",
    "src/triggers",
    "src/connections/web_sockets",
    "adapters",
  ],
  cli: [
    ".",
    "src/auto",
    "src/core",
    "src/protocol",
    "src/linux",
    "src/windows",
    "src/triggers",
    "adapters",
  ],
};

/** The imports of a file: from where, and whether they are only of types. */
function importsOf(file: string): { from: string; isType: boolean }[] {
  const source = readFileSync(`${root}/${file}`, "utf8").replace(/\/\*\*[^]*?\*\//g, "");
  return [...source.matchAll(/^(?:import|export)( type)?[^;]*? from "([^"]+)";/gm)].map((
    [, type, from],
  ) => ({
    from: from as string,
    isType: type !== undefined,
  }));
}

/** The longest folder of the list that has the file. */
const folderOf = (file: string) =>
  Object.keys(layers).filter((folder) => file.startsWith(`${folder}/`)).sort((a, b) =>
    b.length - a.length
  )[0] ?? ".";

test("every folder imports only from those below it", () => {
  const library = globSync(["*.ts", "{src,adapters,cli}/**/*.ts"], { cwd: root });
  assert.ok(library.length > 60);
  for (const file of library) {
    const folder = folderOf(file);
    for (const { from } of importsOf(file)) {
      if (!from.startsWith(".")) continue;
      const target = relative(root, resolve(root, dirname(file), from));
      const to = folderOf(target);
      assert.ok(
        to === folder || layers[folder]?.includes(to),
        `${file} imports ${target}: ${folder} may not know ${to}`,
      );
    }
  }
});

test("the README is short, and its links lead somewhere, as those of all documents do", () => {
  const words = readFileSync(`${root}/README.md`, "utf8").split(/\s+/).length;
  assert.ok(words <= 450, `README.md has ${words} words`);
  for (const file of globSync("{*.md,docs/**/*.md}", { cwd: root })) {
    const text = readFileSync(`${root}/${file}`, "utf8");
    const headings = (name: string) =>
      [...readFileSync(name, "utf8").matchAll(/^#+ (.*)$/gm)].map(([, title = ""]) =>
        `#${title.toLowerCase().replace(/[^\p{L}\p{N} _-]/gu, "").replaceAll(" ", "-")}`
      );
    for (const [, target = ""] of text.matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^https?:/.test(target)) continue;
      const [path = "", heading] = target.split(/(?=#)/);
      const linked = path.startsWith("#") ? `${root}/${file}` : resolve(root, dirname(file), path);
      assert.ok(existsSync(linked), `${file}: ${target}`);
      const anchor = path.startsWith("#") ? path : heading;
      if (anchor !== undefined) assert.ok(headings(linked).includes(anchor), `${file}: ${target}`);
    }
  }
});

/** A file of the library, and all that it loads at once. */
function loadedBy(first: string, check: (from: string, file: string) => void = () => {}): string[] {
  const seen = new Set<string>();
  const load = (file: string) => {
    if (seen.has(file)) return;
    seen.add(file);
    for (const { from, isType } of importsOf(file)) {
      if (isType) continue;
      check(from, file);
      if (from.startsWith(".")) load(relative(root, resolve(root, dirname(file), from)));
    }
  };
  load(first);
  return [...seen];
}

test("the rest of an adapter is loaded on its own runtime only", () => {
  for (
    const [runtime, others] of [["node", "bun|deno"], ["bun", "deno"], [
      "deno",
      "bun|node",
    ]] as const
  ) {
    const foreign = loadedBy(`adapters/${runtime}/complete.ts`).filter((file) =>
      new RegExp(`^adapters/(${others})/`).test(file)
    );
    assert.deepEqual(foreign, [], runtime);
  }
});

test("start-up loads no module of a runtime, and nothing that only a reload needs", () => {
  const seen = loadedBy("mod.ts", (from, file) => assert.match(from, /^\.\.?\//, file));
  const late = seen.filter((file) =>
    /^src\/(connections|sockets|service|reload|linux|windows)\//.test(file)
  ).sort();
  assert.deepEqual(late, [
    "src/linux/addresses.ts",
    "src/linux/constants.ts",
    "src/linux/listening.ts",
    "src/linux/proc.ts",
    "src/linux/socket_options.ts",
    "src/reload/mailbox.ts",
    "src/service/pid_file.ts",
  ]);
});

test("every unit test is one of a bare `deno test`, or of those that need permissions", () => {
  const { include } = json("deno.json").test as { include: string[] };
  const runner = readFileSync(`${root}/tests/run.mjs`, "utf8");
  for (const file of globSync("tests/unit/**/*.test.ts", { cwd: root })) {
    const isBare = include.some((path) => file === path || file.startsWith(`${path}/`));
    const name = file.slice("tests/unit/".length, -".test.ts".length);
    assert.notEqual(isBare, runner.includes(`"${name}"`), file);
  }
});

test("every parser of src/protocol is fed anything", () => {
  const fuzzed = readFileSync(`${root}/tests/unit/protocol/parsers.property.test.ts`, "utf8");
  for (const file of globSync("src/protocol/*.ts", { cwd: root })) {
    const source = readFileSync(`${root}/${file}`, "utf8");
    for (const [, name] of source.matchAll(/^export function ((?:parse|from|take)\w+)/gm)) {
      assert.ok(fuzzed.includes(`"${name}"`), `${name} of ${file} is not in the test`);
    }
  }
});

test("tests clean up in one way, which keeps its order and does all of it", () => {
  for (const file of globSync("{tests,bench}/**/*.ts", { cwd: root })) {
    if (/clean_up(\.test)?\.ts$|node_modules/.test(file)) continue;
    assert.doesNotMatch(
      readFileSync(`${root}/${file}`, "utf8"),
      /\b(?:t|test|context)\.after\(/,
      file,
    );
  }
});
