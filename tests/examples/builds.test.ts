/**
 * examples/builds: the production build of a framework is deployed by the script while clients ask,
 * and no request fails.
 */
import assert from "node:assert/strict";
import {
  cpSync,
  globSync,
  readFileSync,
  readlinkSync,
  renameSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { openConnection } from "../load/http1.ts";
import { pinned } from "../pinned.mjs";
import { cleanUp } from "../support/clean_up.ts";
import { installLocked, pathWith, provide, root, run } from "../support/package.ts";
import { freePort } from "../support/port.ts";
import { startProgram, temporaryFolder } from "../support/program.ts";
import { oneOfEachKind, type Runtime } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";

const builds = join(root, "examples/builds");

interface Example {
  readonly name: string;
  /** The folder that its build makes. */
  readonly output: string;
  /** The file of a build that is loaded first. */
  readonly entry: string;
  readonly kinds: readonly Runtime["kind"][];
  /** What it needs beside the library. */
  readonly needs: readonly string[];
  /** The command of its script `start`, for a runtime. */
  start(runtime: Runtime): readonly string[];
}

const command = (
  { executable, flags }: Runtime,
) => [executable, ...flags, "node_modules/@js0/reload-self/cli.js"];
const startBelowRun = (
  runtime: Runtime,
) => [...command(runtime), "run", "--", runtime.executable, ...runtime.flags, "server.js"];
const examples: readonly Example[] = [
  {
    name: "nitro",
    output: ".output",
    entry: "server/index.mjs",
    // On Bun, the build of Nitro 3.0.0 takes the second argument of a fetch handler for the options
    // of a request, and loses the path.
    kinds: ["node", "deno"],
    needs: ["srvx"],
    start: (
      runtime,
    ) => [...command(runtime), "serve", "--pid-file", "app.pid", "current/server/index.mjs"],
  },
  {
    name: "sveltekit",
    output: "build",
    entry: "handler.js",
    kinds: ["node", "deno", "bun"],
    needs: [],
    start: startBelowRun,
  },
  {
    name: "astro",
    output: "dist",
    entry: "server/entry.mjs",
    kinds: ["node", "deno", "bun"],
    needs: [],
    start: startBelowRun,
  },
];

/**
 * Installs an example and builds its versions 1 and 2. Returns its folder, with the builds in `1`
 * and `2`.
 */
async function build(t: TestContext, { name, output }: Example): Promise<string> {
  const folder = join(temporaryFolder(t), name);
  cpSync(join(builds, name), folder, { recursive: true });
  const env = {
    ...process.env,
    PATH: pathWith(folder, { node: pinned.node26 }),
    ASTRO_TELEMETRY_DISABLED: "1",
  };
  await installLocked(folder, env);
  for (const version of ["1", "2"]) {
    for (const file of globSync("{src,routes}/**/*.{js,astro}", { cwd: folder })) {
      const path = join(folder, file);
      writeFileSync(
        path,
        readFileSync(path, "utf8").replace("VERSION = 1", `VERSION = ${version}`),
      );
    }
    await run("npm", ["run", "build"], { cwd: folder, env });
    cpSync(join(folder, output), join(folder, version), { recursive: true });
  }
  return folder;
}

/** A folder as on the machine that serves: the example with the library, and no build. */
async function createHost(t: TestContext, { name, needs }: Example): Promise<string> {
  const folder = join(temporaryFolder(t), name);
  cpSync(join(builds, name), folder, { recursive: true });
  await provide(folder, ...needs);
  return folder;
}

function pointTo(folder: string, release: string): void {
  symlinkSync(release, join(folder, "next"));
  renameSync(join(folder, "next"), join(folder, "current"));
}

for (const example of examples) {
  test(example.name, async (t) => {
    const built = await build(t, example);
    for (const runtime of oneOfEachKind.filter(({ kind }) => example.kinds.includes(kind))) {
      await t.test(`${runtime.name}: deployed under load, and a release that fails`, async (t) => {
        const folder = await createHost(t, example);
        const port = await freePort();
        const runtimeFolder = temporaryFolder(t);
        const env = {
          ...process.env,
          XDG_RUNTIME_DIR: runtimeFolder,
          PATH: pathWith(runtimeFolder, { node: pinned.node26 }),
        };
        const deploy = async (version: string, change: (output: string) => void = () => {}) => {
          const output = join(folder, example.output);
          cpSync(join(built, version), output, { recursive: true });
          change(output);
          await run(join(builds, "deploy.sh"), [example.output], { cwd: folder, env });
        };
        await deploy("1");
        startProgram(t, runtime, {
          command: example.start(runtime),
          cwd: folder,
          env: {
            PORT: String(port),
            XDG_RUNTIME_DIR: runtimeFolder,
            DENO_NO_PACKAGE_JSON: undefined,
          },
        });
        await until(
          "the server",
          () =>
            openConnection({ port }).then((connection) => (connection.close(), true), () => false),
        );

        const get = async (path: string) => {
          const connection = await openConnection({ port });
          connection.write(`GET ${path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n`);
          const { status, body } = await connection.answer();
          connection.close();
          assert.equal(status, 200, body);
          return body;
        };
        const answers: string[] = [];
        const errors: unknown[] = [];
        let isOver = false;
        cleanUp(t, () => void (isOver = true));
        const clients = Array.from({ length: 4 }, async () => {
          while (!isOver) {
            try {
              const [, version = "none"] = /version (\d)/.exec(await get("/")) ?? [];
              answers.push(version);
            } catch (error) {
              errors.push(error);
            }
          }
        });
        await until("an answer", () => answers.includes("1"));
        assert.equal(await get("/robots.txt"), "User-agent: *\n");

        // What the old process loads for the first time behind the new link is still of its own
        // release.
        cpSync(join(built, "2"), join(folder, "elsewhere"), { recursive: true });
        const first = readlinkSync(join(folder, "current"));
        pointTo(folder, "elsewhere");
        assert.equal(await get("/late"), "version 1\n");
        pointTo(folder, first);

        await deploy("2");
        await until("the new version", () => answers.at(-1) === "2");

        const current = readlinkSync(join(folder, "current"));
        const broken = deploy(
          "1",
          (output) => writeFileSync(join(output, example.entry), "throw new Error('broken');"),
        );
        await assert.rejects(broken, /reload failed|exited/);
        assert.equal(readlinkSync(join(folder, "current")), current, "the link is where it was");
        const count = answers.length;
        await until("more answers", () => answers.length > count + 10);
        isOver = true;
        await Promise.all(clients);
        assert.deepEqual(errors, []);
        assert.deepEqual([...new Set(answers)], ["1", "2"]);
      });
    }
  });
}
