/**
 * The code of the documentation. What is a program of its own is run, too:
 * tests/examples/documentation.test.ts.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { globSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { cleanUp } from "../support/clean_up.ts";
import { blockOf, blocksOf } from "../support/documentation.ts";

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

/** What the pieces of code leave to the reader, and what only other runtimes have. */
const PRELUDE = `
import type { Server } from "node:http";
import type { Token } from "@js0/reload-self";
declare global {
  const { listen }: typeof import("@js0/reload-self");
  const { createServer }: typeof import("node:http");
  const { createSocket }: typeof import("node:dgram");
  const token: Token;
  const server: Server;
  // deno-lint-ignore no-explicit-any
  const app: any, express: any, fastify: any, Bun: any, Deno: any;
  const members: Map<object, string>;
  function connectToDatabase(): Promise<void>;
  function importNext(): Promise<void>;
  function answer(data: Uint8Array, from: object): Promise<void>;
}
`;

/** What docs/testing.md uses of it. */
const BUN_TEST = `declare module "bun:test" {
  export function test(name: string, body: () => Promise<void>): void;
  // deno-lint-ignore no-explicit-any
  export function expect(value: unknown): any;
}
`;

test("every piece of code fits the types of the library", (t) => {
  const cache = join(root, "node_modules/.cache");
  mkdirSync(cache, { recursive: true });
  const folder = mkdtempSync(join(cache, "documentation-"));
  cleanUp(t, () => rmSync(folder, { recursive: true }));
  let count = 0;
  for (const file of globSync("{README*.md,docs/**/*.md}", { cwd: root })) {
    for (const code of blocksOf(file, "ts")) {
      const name = `${file.replaceAll("/", "_")}_${++count}.ts`;
      writeFileSync(join(folder, name), `${code.replaceAll("jsr:@js0", "@js0")}\nexport {};\n`);
    }
  }
  assert.ok(count > 20, `${count} pieces`);
  writeFileSync(
    join(folder, "app.ts"),
    `export default { fetch: (_: Request) => new Response() };\n`,
  );
  writeFileSync(join(folder, "prelude.ts"), PRELUDE);
  writeFileSync(
    join(folder, "counter.ts"),
    blockOf("docs/testing.md", "# Tests of your program", "ts") as string,
  );
  writeFileSync(join(folder, "bun_test.d.ts"), BUN_TEST);
  const entries = Object.entries<string>(
    JSON.parse(readFileSync(join(root, "jsr.json"), "utf8")).exports,
  );
  writeFileSync(
    join(folder, "tsconfig.json"),
    JSON.stringify({
      extends: join(root, "tsconfig.json"),
      compilerOptions: {
        isolatedDeclarations: false,
        declaration: false,
        noUnusedLocals: false,
        noUnusedParameters: false,
        paths: Object.fromEntries(
          entries.map(([key, source]) => [`@js0/reload-self${key.slice(1)}`, [join(root, source)]]),
        ),
      },
      include: ["*.ts"],
      exclude: [],
    }),
  );
  const { stdout } = spawnSync(process.execPath, [
    join(root, "node_modules/typescript/bin/tsc"),
    "--noEmit",
    "-p",
    folder,
  ], {
    encoding: "utf8",
  });
  assert.deepEqual(stdout.split("\n").filter((line) => line.includes("error TS")), []);
});
