/**
 * Homebrew, asdf and mise put links to Deno on the search path, and `--allow-run` allows a path,
 * not what it leads to.
 */
import assert from "node:assert/strict";
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { test, type TestContext } from "node:test";
import { readmeProgram } from "../support/documentation.ts";
import { root } from "../support/package.ts";
import { freePort } from "../support/port.ts";
import { commandLineOf } from "../support/proc.ts";
import { pidOnLine, type Program, startProgram, temporaryFolder } from "../support/program.ts";
import { runtimes } from "../support/runtimes.ts";

const deno = runtimes.find(({ kind }) => kind === "deno");

/** The README's program, by the README's command, from the folder that it is in. */
async function start(
  t: TestContext,
  type: (bin: string) => { deno: string; allowed: string; path: string },
): Promise<Program> {
  const folder = temporaryFolder(t);
  const bin = join(folder, "bin");
  mkdirSync(bin);
  symlinkSync(deno?.executable as string, join(bin, "deno-cellar"));
  symlinkSync("deno-cellar", join(bin, "deno"));
  writeFileSync(
    join(folder, "deno.json"),
    JSON.stringify({ imports: { "@js0/reload-self": join(root, "mod.ts") } }),
  );
  writeFileSync(join(folder, "main.ts"), readmeProgram(await freePort()));
  const { deno: typed, allowed, path } = type(bin);
  const command =
    `exec ${typed} run --quiet --allow-net --allow-env --allow-run=${allowed} main.ts`;
  return startProgram(t, deno as NonNullable<typeof deno>, {
    command: ["/bin/sh", "-c", command],
    cwd: folder,
    env: { PATH: `${path}${delimiter}${process.env.PATH}` },
  });
}

const ways: Record<string, Parameters<typeof start>[1]> = {
  "its name is typed": (bin) => ({ deno: "deno", allowed: "deno", path: bin }),
  "its full path is typed": (bin) => ({ deno: join(bin, "deno"), allowed: "deno", path: bin }),
  "a relative path is typed": (bin) => ({ deno: "./bin/deno", allowed: "deno", path: bin }),
  "the executable itself is typed": (bin) => ({
    deno: deno?.executable as string,
    allowed: "deno",
    path: bin,
  }),
  "the link is typed and allowed, and not on the search path": (bin) => ({
    deno: join(bin, "deno"),
    allowed: join(bin, "deno"),
    path: "/nowhere",
  }),
  "another name is typed and allowed": (bin) => ({
    deno: "deno-cellar",
    allowed: "deno-cellar",
    path: bin,
  }),
};

for (const [what, type] of Object.entries(ways)) {
  test(
    `deno: the README's command, where deno is a link: ${what}`,
    { skip: deno === undefined && "not asked for" },
    async (t) => {
      const program = await start(t, type);
      const options = (pid: number) => commandLineOf(pid).slice(1);
      let pid = await pidOnLine(program, /generation 0: listening/);
      const asStarted = options(pid);
      for (const generation of [1, 2, 3]) {
        program.signal(pid);
        pid = await pidOnLine(
          program,
          new RegExp(`pid \\d+, generation ${generation}: listening|reload failed`),
        );
        assert.deepEqual(program.lines.filter((line) => line.includes("reload failed")), []);
        await program.line(new RegExp(`: reload done in \\d+ ms: pid ${pid} is in charge`));
        assert.deepEqual(options(pid), asStarted, "not one permission more");
      }
    },
  );
}
