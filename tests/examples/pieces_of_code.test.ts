/**
 * The pieces of code of the documentation that are no programs of their own: each runs in one, and
 * is reloaded.
 */
import assert from "node:assert/strict";
import { globSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { blocksOf } from "../support/documentation.ts";
import { DEPENDENCIES, provide, root } from "../support/package.ts";
import { freePort } from "../support/port.ts";
import { isAlive } from "../support/proc.ts";
import { pidOnLine, startProgram, temporaryFolder } from "../support/program.ts";
import { type Runtime, runtimes } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";

/** What the pieces of code leave to the reader. */
const given: Record<string, string> = {
  listen: `import { listen } from "@js0/reload-self";`,
  createServer: `import { createServer } from "node:http";`,
  express: `import express from "express";`,
  fastify: `import fastify from "fastify";`,
  app: `const app = (_request, response) => response.end();`,
  server: `const server = createServer();`,
  connectToDatabase: `const connectToDatabase = async () => {};`,
  importNext: `const importNext = () => new Promise((resolve) => setTimeout(resolve, 10));`,
  token: `const token = listen();`,
};

/** Pieces of code that are no files of their own, each once: its first place, and its text. */
const pieces = new Map<string, string>();
for (const file of globSync("docs/**/*.md", { cwd: root }).sort()) {
  for (const code of blocksOf(file, "ts")) {
    if (!/^\/\/ [\w.]+\.ts$/m.test(code) && !pieces.has(code)) {
      pieces.set(code, `${file}: ${code.split("\n")[0]}`);
    }
  }
}

const node = runtimes.findLast(({ kind }) => kind === "node") as Runtime;
for (const [code, name] of pieces) {
  test(name, { skip: node === undefined && "not asked for" }, async (t) => {
    const folder = temporaryFolder(t);
    await provide(folder, "express", "fastify", ...DEPENDENCIES);
    const isDeclared = (name: string) =>
      new RegExp(`(const|import) (\\{ )?(\\w+, )*${name}\\b`).test(code);
    const missing = Object.keys(given).filter((name) => !isDeclared(name)).map((name) =>
      given[name]
    );
    let body = code;
    for (const [port] of code.matchAll(/\b(8000|8001|3000)\b/g)) {
      body = body.replace(port, String(await freePort()));
    }
    const begun = `console.log(\`pid \${process.pid}, generation \${token.generation}: begun\`);`;
    writeFileSync(join(folder, "app.ts"), "export default { fetch: () => new Response() };\n");
    writeFileSync(
      join(folder, "main.ts"),
      `${missing.join("\n")}
const timer = setInterval(() => {}, 1_000_000);
${
        body.includes("await token.cancelled()")
          ? body.replace("await token.cancelled()", `${begun}\n$&`)
          : body + begun
      }
await token.cancelled();
clearInterval(timer);
`,
    );
    const program = startProgram(t, node, { script: "main.ts", cwd: folder });
    const pid = await pidOnLine(program, /generation 0: begun$/);
    program.signal(pid);
    const next = await pidOnLine(program, /generation 1: begun$/);
    await until("the old process to be gone", () => !isAlive(pid));
    program.signal(next, "SIGTERM");
    await until("all to be gone", () => program.pids().length === 0);
    assert.deepEqual(program.lines.filter((line) => !line.endsWith(": begun")), []);
  });
}
