/** What reads the log may end before the program does. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { cli } from "../support/cli.ts";
import { root } from "../support/package.ts";
import { freePort } from "../support/port.ts";
import { isAlive } from "../support/proc.ts";
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

for (const runtime of oneOfEachKind) {
  test(`${runtime.name}: serve: reloads go on when the terminal is closed that it was started on`, async (t) => {
    const port = await freePort();
    const module = join(temporaryFolder(t), "app.mjs");
    writeFileSync(
      module,
      `import process from "node:process"; export default { fetch: () => new Response(String(process.pid)) };`,
    );
    const line = [...cli(runtime), "serve", "--port", String(port), module];
    const command = ["script", "-qec", line.map((part) => `'${part}'`).join(" "), "/dev/null"];
    const program = startProgram(t, runtime, { command, stdin: "pipe" });
    const answer = async () => {
      const headers = { connection: "close" };
      return Number(await (await fetch(`http://127.0.0.1:${port}/`, { headers })).text());
    };
    await program.line(/^Listening on/);
    let pid = await answer();
    // The terminal goes with script(1); the system tells that by SIGHUP, which reloads.
    process.kill(program.process.pid as number, "SIGKILL");
    for (let reloads = 0; reloads < 3; reloads++) {
      const old = pid;
      pid = await until("the next process to answer", async () => {
        const now = await answer();
        return now !== old && now;
      });
      await until("the old process to be gone", () => !isAlive(old));
      process.kill(pid, "SIGHUP");
    }
  });
}
