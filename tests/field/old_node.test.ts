/** The command line on a Node that is too old: one line that says so, and no stack. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { pinned } from "../pinned.mjs";
import { provide } from "../support/package.ts";
import { temporaryFolder } from "../support/program.ts";

test(
  "the command on Node 20 fails with one line",
  { skip: !existsSync(pinned.node20) && "no Node 20 for this platform" },
  async (t) => {
    const folder = temporaryFolder(t);
    await provide(folder);
    const command = join(folder, "node_modules/.bin/reload-self");
    for (
      const args of [[], ["--version"], ["doctor"], ["run", "--", "true"], ["serve", "x.js"], [
        "reload",
        "1",
      ], [
        "no such command",
      ]]
    ) {
      const { status, stdout, stderr } = spawnSync(pinned.node20, [command, ...args], {
        encoding: "utf8",
      });
      assert.match(
        stderr,
        /^reload-self: @js0\/reload-self needs Node 22\.6 or later, and this is v20\.\S+\n$/,
      );
      assert.equal(stdout, "");
      assert.equal(status, 1);
    }
  },
);
