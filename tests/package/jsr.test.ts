/** The package as Deno gets it from JSR: from a folder that is served as the registry does it. */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { build } from "../../tools/build.ts";
import { pinned } from "../pinned.mjs";
import { readmeProgram } from "../support/documentation.ts";
import { run } from "../support/package.ts";
import { freePort } from "../support/port.ts";
import { isAlive } from "../support/proc.ts";
import { pidOnLine, startProgram } from "../support/program.ts";
import { type Registry, startJsr } from "../support/registries.ts";
import { runtimes } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";

const folder = mkdtempSync(join(tmpdir(), "reload-self-jsr-"));
let registry: Registry;
let env: NodeJS.ProcessEnv;

before(async () => {
  registry = await startJsr(join(folder, "dist"), await build(join(folder, "dist")));
  env = {
    ...process.env,
    JSR_URL: registry.url,
    DENO_DIR: join(folder, "cache"),
    NO_COLOR: "1",
    DENO_NO_UPDATE_CHECK: "1",
  };
});
after(() => {
  registry.close();
  rmSync(folder, { recursive: true, force: true });
});

const deno = runtimes.find(({ kind }) => kind === "deno");

test("Deno: the README's program, imported from JSR", {
  skip: deno === undefined && "not asked for",
}, async (t) => {
  const port = await freePort();
  const line = `import { listen } from "jsr:@js0/reload-self";`;
  const file = join(folder, "main.ts");
  writeFileSync(
    file,
    readmeProgram(port).replace(`import { listen } from "@js0/reload-self";`, line),
  );
  assert.ok(readFileSync(file, "utf8").includes(line));
  const program = startProgram(t, deno as NonNullable<typeof deno>, {
    command: [pinned.deno, "run", "--allow-all", file],
    cwd: folder, // Where its deno.lock is written.
    env,
  });
  const pid = await pidOnLine(program, /generation 0: listening/);
  assert.deepEqual(
    [...registry.requested].filter((name) => name.endsWith(".js")).map((name) =>
      name.replace(/^.*\//, "")
    ).sort(),
    [
      ...["bun.js", "deno.js", "mod.js", "node.js", "reloading.js"],
    ],
  );
  // A deploy that cleans up: a reload needs none of the old process's files.
  rmSync(join(folder, "cache"), { recursive: true });
  program.signal(pid);
  const next = await pidOnLine(program, /generation 1: listening/);
  await until("the old process to be gone", () => !isAlive(pid));
  assert.match(await (await fetch(`http://localhost:${port}/`)).text(), /generation 1/);
  program.signal(next, "SIGTERM");
  await until("the new process to be gone", () => program.pids().length === 0);
});

test(
  "Deno: the command line, from JSR",
  { skip: deno === undefined && "not asked for" },
  async () => {
    const { stdout } = await run(pinned.deno, ["run", "-A", "jsr:@js0/reload-self/cli", "--help"], {
      env,
      cwd: folder,
    });
    assert.match(stdout, /reload-self/);
  },
);

test(
  "the types come from the sources: an editor shows their documentation",
  { skip: deno === undefined && "not asked for" },
  async () => {
    const file = join(folder, "types.ts");
    writeFileSync(
      file,
      `import { listen } from "jsr:@js0/reload-self";\n// @ts-expect-error no such option\nlisten({ setle: 1 });\nlisten({ probation: 1 });\n`,
    );
    await run(pinned.deno, ["check", file], { env, cwd: folder });
  },
);
