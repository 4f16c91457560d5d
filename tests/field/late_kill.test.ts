/** A new process may have ended by the time that it is killed. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { root } from "../support/package.ts";
import { startProgram, temporaryFolder } from "../support/program.ts";
import { runtimes } from "../support/runtimes.ts";

/**
 * Starts a process that ends, in each way that the adapter has, and kills it when its end is known.
 */
const program = (adapters: string, folder: string) => `
import * as childProcess from "node:child_process";
import { spawnWithDeno } from ${JSON.stringify(`${adapters}/deno/process.ts`)};
import { spawnWithNode } from ${JSON.stringify(`${adapters}/shared/node_process.ts`)};

const ways = { node: spawnWithNode(childProcess, [], false) };
if (globalThis.Deno) ways.deno = spawnWithDeno(Deno, ${JSON.stringify(folder)});
for (const [name, spawn] of Object.entries(ways)) {
  const child = await spawn({ file: "/bin/true", args: [] }, "/", {}, false);
  const status = await child.exited;
  child.kill();
  child.kill();
  console.log(JSON.stringify({ type: name, pid: child.pid, generation: 0, status }));
}`;

for (const runtime of runtimes) {
  test(`${runtime.name}: a kill that comes too late is no error`, async (t) => {
    const folder = temporaryFolder(t);
    const script = join(folder, "program.mjs");
    writeFileSync(script, program(join(root, "adapters"), folder));
    const started = startProgram(t, runtime, { script });
    for (const way of runtime.kind === "deno" ? ["node", "deno"] : ["node"]) {
      assert.deepEqual((await started.report(way)).status, { code: 0, signal: null });
    }
    assert.deepEqual(started.lines, []);
  });
}
