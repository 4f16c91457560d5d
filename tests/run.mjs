/**
 * Runs suites of tests, one after the other, and prints how long each took: `npm run check`.
 * With `--newest` or `--older` they run only on those versions; see tests/support/runtimes.ts.
 */
import { Buffer } from "node:buffer";
import { spawn } from "node:child_process";
import { globSync } from "node:fs";
import { dirname } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { pinned } from "./pinned.mjs";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const nodeTest = (...options) => [pinned.node26, "--test", "--test-force-exit", ...options];

/** The unit tests that deno.json leaves out: they open sockets, start processes or write files. */
const needPermissions = [
  "adapters/deno",
  "adapters/reparent.property",
  "drain/keep_alive.property",
  "testing/testing",
  "triggers/triggers",
]
  .map((name) => `tests/unit/${name}.test.ts`);

/**
 * The commands of each suite. What a suite's processes need of the machine decides how many files
 * run at a time.
 */
const suites = {
  check: [[...nodeTest(), "tests/checks/*.test.ts"]],
  unit: [
    [...nodeTest(), "tests/unit/**/*.test.ts"],
    // As a bare `deno test` runs them: those that need no permission.
    [pinned.deno, "test", "--quiet"],
    [pinned.deno, "test", "--quiet", "--allow-all", "--no-check", ...needPermissions],
    // Beside the others a property may take longer than the five seconds of `bun test`.
    [pinned.bun, "test", "--timeout=120000", "tests/unit/**/*.test.ts"],
  ],
  "unit-older": [
    [pinned.node22, "--disable-warning=ExperimentalWarning", "--test", "tests/unit/**/*.test.ts"],
    [pinned.node24, "--test", "tests/unit/**/*.test.ts"],
  ],
  integration: [[
    ...nodeTest("--test-concurrency=3", "--test-timeout=300000"),
    "tests/{integration,support}/**/*.test.ts",
  ]],
  cli: [[...nodeTest("--test-concurrency=3", "--test-timeout=300000"), "tests/cli/*.test.ts"]],
  connections: [[
    ...nodeTest("--test-concurrency=3", "--test-timeout=300000"),
    "tests/connections/*.test.ts",
  ]],
  systemd: [[
    ...nodeTest("--test-concurrency=2", "--test-timeout=300000"),
    "tests/systemd/*.test.ts",
  ]],
  auto: [[...nodeTest("--test-concurrency=2", "--test-timeout=300000"), "tests/auto/*.test.ts"]],
  load: [[...nodeTest("--test-concurrency=2", "--test-timeout=600000"), "tests/load/*.test.ts"]],
  faults: [[
    ...nodeTest("--test-concurrency=2", "--test-timeout=600000"),
    "tests/faults/*.test.ts",
  ]],
  bench: [[...nodeTest("--test-concurrency=2", "--test-timeout=300000"), "tests/bench/*.test.ts"]],
  field: [[...nodeTest("--test-concurrency=3", "--test-timeout=300000"), "tests/field/*.test.ts"]],
  package: [[
    ...nodeTest("--test-concurrency=2", "--test-timeout=300000"),
    "tests/package/*.test.ts",
  ]],
  examples: [[
    ...nodeTest("--test-concurrency=3", "--test-timeout=300000"),
    "tests/examples/*.test.ts",
  ]],
  // Each file installs and builds what is not there yet.
  frameworks: [[
    ...nodeTest("--test-concurrency=1", "--test-timeout=600000"),
    "tests/frameworks/*.test.ts",
  ]],
  windows: [[...nodeTest("--test-timeout=1200000"), "tests/windows/windows.test.ts"]],
};

/**
 * Resolves with the exit code of a command. The patterns are resolved here: not every runtime does
 * so. What commands print that run side by side is shown when they have ended.
 */
function run([file, ...args], isAlone) {
  const expanded = args.flatMap((arg) =>
    arg.includes("*") ? globSync(arg, { cwd: root }).sort() : [arg]
  );
  // Deno would take the types in node_modules for a part of the program, and complain about them.
  const env = { ...process.env, DENO_NO_PACKAGE_JSON: "1", DENO_NO_UPDATE_CHECK: "1" };
  const output = isAlone ? "inherit" : "pipe";
  const child = spawn(file, expanded, { cwd: root, env, stdio: ["ignore", output, output] });
  const printed = [];
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on("data", (data) => printed.push(data));
  }
  return new Promise((resolve) =>
    child.once("close", (code) => {
      process.stdout.write(Buffer.concat(printed));
      resolve(code ?? 1);
    })
  );
}

const versions = { "--newest": "node26,deno,bun", "--older": "node22,node24" };
const names = process.argv.slice(2).filter((name) => !(name in versions));
for (const option of process.argv) {
  if (option in versions) process.env.RUNTIMES ??= versions[option];
}
const unknown = names.find((name) => !(name in suites));
if (unknown !== undefined || names.length === 0) {
  console.error(
    `usage: node tests/run.mjs [--newest | --older] ${Object.keys(suites).join(" | ")} ...`,
  );
  process.exit(2);
}
const lines = [];
for (const name of names) {
  const begun = performance.now();
  const commands = suites[name];
  const codes = await Promise.all(commands.map((command) => run(command, commands.length === 1)));
  const failed = codes.some((code) => code !== 0);
  lines.push(
    `${failed ? "FAILED" : "passed"}  ${name.padEnd(12)} ${
      ((performance.now() - begun) / 1000).toFixed(1)
    } s`,
  );
  if (failed) process.exitCode = 1;
}
console.log(`\n${lines.join("\n")}`);
