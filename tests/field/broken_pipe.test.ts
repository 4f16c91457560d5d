/** Whoever reads the log may end before the program does. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { root } from "../support/package.ts";
import { freePort } from "../support/port.ts";
import { startProgram, temporaryFolder } from "../support/program.ts";
import { oneOfEachKind } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";

for (const runtime of oneOfEachKind) {
  test(`${runtime.name}: a reload that fails when nobody reads stderr any more leaves the old process serving`, async (t) => {
    const port = await freePort();
    const folder = temporaryFolder(t);
    const script = join(folder, "server.mjs");
    const attempts = join(folder, "attempts");
    writeFileSync(
      script,
      `import { appendFileSync } from "node:fs";
import { createServer } from "node:http";
import process from "node:process";
import { listen } from ${JSON.stringify(join(root, "mod.ts"))};
const token = listen();
if (token.generation > 0) {
  appendFileSync(${JSON.stringify(attempts)}, ".");
  process.exit(3);
}
await token.bind(createServer((_, response) => response.end("served")), { port: ${port} });
console.log(JSON.stringify({ type: "serving", pid: process.pid }));
`,
    );
    writeFileSync(attempts, "");
    const program = startProgram(t, runtime, {
      command: [
        ...["sh", "-c", `{ "$@" 2>&1; echo ended >&3; } 3>&2 | head -n 1`, "sh"],
        ...[runtime.executable, ...runtime.flags, script],
      ],
    });
    const { pid } = await program.report("serving");
    for (let count = 1; count <= 3; count++) {
      program.signal(pid);
      await until("the new process to fail", () => {
        const { length } = readFileSync(attempts, "utf8");
        return length >= count;
      });
      await until("the failure to be over", () => program.pids().length <= 3);
      const response = await fetch(`http://127.0.0.1:${port}/`, {
        headers: { connection: "close" },
      });
      assert.equal(await response.text(), "served");
    }
    assert.deepEqual(program.lines, []);
  });
}
