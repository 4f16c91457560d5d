/**
 * What TypeScript and the tools that check packages say of it, however a program resolves modules.
 */
import assert from "node:assert/strict";
import {
  globSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, normalize } from "node:path";
import { after, before, test } from "node:test";
import { pinned } from "../pinned.mjs";
import { pack, root, run, unpack } from "../support/package.ts";

const folder = mkdtempSync(join(tmpdir(), "reload-self-types-"));
let tarball: string;
let project: string;
before(async () => {
  tarball = await pack(folder);
  project = await unpack(tarball, folder);
  for (const name of ["@types", "undici-types"]) {
    symlinkSync(join(root, "node_modules", name), join(project, "node_modules", name));
  }
});
after(() => rmSync(folder, { recursive: true, force: true }));

const PROGRAM = `import { listen, ReloadError, type Token } from "@js0/reload-self";
import type { Adapter, NativeServe } from "@js0/reload-self/adapter";
import { token as auto } from "@js0/reload-self/auto";
import { serve } from "@js0/reload-self/serve";
import { createTestToken } from "@js0/reload-self/testing";
import { reloadEvery } from "@js0/reload-self/triggers";
import { type LiveWebSocket, liveWebSockets } from "@js0/reload-self/ws";

export const adapters: [Adapter, NativeServe][] = [];
export async function main(): Promise<string> {
  const token: Token = listen({ probation: 10, onEvent: (event) => event.type === "reload-fail" && event.error.code });
  token.reload().catch((error: unknown) => error instanceof ReloadError && error.exitCode === 1);
  liveWebSockets<string>(auto, "chat", { accept(_socket: LiveWebSocket) {}, release: () => "left" });
  reloadEvery(createTestToken({ generation: 1 }).token, "24h").stop();
  // @ts-expect-error no such option
  listen({ setle: 10 });
  return (await serve(() => new Response("")))?.url;
}
`;

const settings: [
  compiler: "typescript" | "typescript5",
  resolution: string,
  module: string,
  file: string,
][] = [
  ["typescript5", "node10", "commonjs", "main.ts"],
  ["typescript5", "node16", "node16", "main.cts"],
  ["typescript5", "node16", "node16", "main.mts"],
  ["typescript5", "bundler", "esnext", "main.ts"],
  ["typescript", "nodenext", "nodenext", "main.cts"],
  ["typescript", "nodenext", "nodenext", "main.mts"],
  ["typescript", "bundler", "esnext", "main.ts"],
];

for (const [compiler, resolution, module, file] of settings) {
  test(`${compiler}: moduleResolution ${resolution}, module ${module}, ${file}`, async () => {
    const place = join(project, [compiler, resolution, module, file].join("_"));
    mkdirSync(place);
    writeFileSync(join(place, file), PROGRAM);
    const options = [
      "--strict",
      "--noEmit",
      "--target",
      "es2022",
      "--lib",
      "es2022",
      "--skipLibCheck",
      "false",
      "--types",
      "node",
    ];
    const args = [...options, "--module", module, "--moduleResolution", resolution, file];
    const { stdout } = await run(pinned.node26, [
      join(root, "node_modules", compiler, "bin/tsc"),
      ...args,
    ], { cwd: place })
      .catch((
        error: { stdout: string },
      ) => error);
    // The types of Node have errors of their own below es2024.
    assert.deepEqual(
      stdout.split("\n").filter((line) => line.includes("error") && !line.includes("/@types/")),
      [],
    );
  });
}

test("Are the types wrong? They are not", async () => {
  const tool = join(root, "node_modules/@arethetypeswrong/cli/dist/index.js");
  // The command line is a program, and nothing to be required.
  const args = [
    tool,
    tarball,
    "--format",
    "json",
    "--no-definitely-typed",
    "--exclude-entrypoints",
    "cli",
  ];
  const { stdout } = await run(pinned.node26, args, { maxBuffer: 2 ** 26 }).catch((
    error: { stdout: string },
  ) => error);
  const { problems, analysis } = JSON.parse(stdout);
  assert.deepEqual(problems, {});
  assert.ok(Object.keys(analysis.entrypoints).length > 6);
});

test("publint finds nothing, not even a suggestion", async () => {
  const { publint } = await import("publint");
  const { messages } = await publint({ pkgDir: join(folder, "dist"), strict: true, pack: "npm" });
  assert.deepEqual(messages, []);
});

test("the links of the documents lead to what is in the package", () => {
  const top = join(project, "node_modules/@js0/reload-self");
  const packed = new Set(globSync("**", { cwd: top }));
  let count = 0;
  for (const file of globSync("**/*.md", { cwd: top })) {
    for (
      const [, target = ""] of readFileSync(join(top, file), "utf8").matchAll(
        /\]\((?!https?:|#)([^)#\s]+)[^)]*\)/g,
      )
    ) {
      count++;
      assert.ok(
        packed.has(normalize(join(dirname(file), target)).replace(/\/$/, "")),
        `${file}: ${target}`,
      );
    }
  }
  assert.ok(count > 50);
  assert.ok(packed.has("examples/chat.ts"));
  assert.deepEqual([...packed].filter((name) => name.endsWith("package-lock.json")), []);
});
