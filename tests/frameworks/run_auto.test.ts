/** `reload-self run --auto` above what people start their programs with. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";
import { pinned } from "../pinned.mjs";
import { runtimes } from "../support/runtimes.ts";
import { prepare } from "./project.ts";
import { reloadsUnderLoad } from "./reloads.ts";

const { folder, apart, env } = await prepare();
const cli = [pinned.node24, join(folder, "node_modules/@js0/reload-self/cli.js")];
const PATH = env.PATH?.replace(":", `:${join(folder, "node_modules/.bin")}:`); // Behind the pinned runtimes.

const commands = [
  "npm start",
  "pnpm start",
  "yarn start",
  "node --run start",
  "npm run tsx",
  "tsx ../apps/node_http.mjs",
  "npm run bun",
  "bun run bun",
  "bun ../apps/bun_serve.mjs",
  "deno task node",
  "deno task deno",
  "deno run -A --no-config ../apps/deno_serve.mjs",
];
for (const command of commands) {
  const kind = /deno/.test(command) ? "deno" : /bun/.test(command) ? "bun" : "node";
  const runtime = runtimes.findLast((runtime) => runtime.kind === kind);
  if (runtime === undefined) continue;
  test(`run --auto -- ${command}: reloads under load`, async (t) => {
    await reloadsUnderLoad(t, join(apart, "run_app"), {
      name: command,
      runtime,
      command: [...cli, "run", "--auto", "--drain-timeout", "20s", "--", ...command.split(" ")],
      env: { PATH, DENO_NO_PACKAGE_JSON: undefined, npm_config_update_notifier: "false" },
      isParent: true,
    });
  });
}

test("run --auto: what is wrong is said, and nothing is started", () => {
  const [file = "", ...args] = cli;
  const run = (...options: string[]) =>
    spawnSync(file, [...args, "run", ...options, "--", "node"], { encoding: "utf8", env });
  assert.match(
    run("--auto", "--drain-timeout", "soon").stderr,
    /--drain-timeout must be a time such as 500ms.*, not soon/,
  );
  assert.match(run("--drain-timeout", "10s").stderr, /--drain-timeout is an option of --auto/);
  const serve = spawnSync(file, [...args, "run", "--auto", "--", "deno", "serve", "main.ts"], {
    encoding: "utf8",
    env,
  });
  assert.match(serve.stderr, /use `reload-self serve`/);
});
