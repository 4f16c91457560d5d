/**
 * Runs a script with one of the runtimes that `npm ci` has installed: node tests/pinned.mjs node26
 * tests/all.ts ... In plain JavaScript, because it must run on any Node that is there, also one
 * that knows no TypeScript.
 */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

const modules = fileURLToPath(new URL("../node_modules", import.meta.url));
const platform = `${process.platform}-${process.arch}`;
const bunPlatform = platform.replace("arm64", "aarch64");
const denoPlatform = process.platform === "linux" ? `${platform}-glibc` : platform;

/** The pinned executables, by name. */
export const pinned = {
  node20: `${modules}/node20-${platform}/bin/node`, // Too old, for a test of that.
  node22: `${modules}/node22-${platform}/bin/node`,
  node24: `${modules}/node24-${platform}/bin/node`,
  node26: `${modules}/node26-${platform}/bin/node`,
  deno: `${modules}/@deno/${denoPlatform}/deno`,
  bun: `${modules}/@oven/bun-${bunPlatform}/bin/bun`,
};

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [name, ...args] = process.argv.slice(2);
  const executable = pinned[name];
  if (executable === undefined || !existsSync(executable)) {
    console.error(
      executable === undefined
        ? `unknown runtime ${name}; there are ${Object.keys(pinned).join(", ")}`
        : `${executable} is missing: run "npm ci" first (there is no pinned ${name} for ${platform} if that does not help)`,
    );
    process.exit(2);
  }
  const child = spawn(executable, args, { stdio: "inherit" });
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
    process.on(signal, () => child.kill(signal));
  }
  child.on("exit", (code, signal) => {
    if (signal === null) process.exit(code ?? 1);
    process.removeAllListeners(signal);
    process.kill(process.pid, signal);
  });
}
