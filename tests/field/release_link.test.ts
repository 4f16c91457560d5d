/**
 * A process that cannot know that it was started in a link: systemd, cron and sudo set no PWD, or
 * leave another directory's.
 */
import assert from "node:assert/strict";
import { mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { root } from "../support/package.ts";
import {
  type Program,
  type StartOptions,
  startProgram,
  temporaryFolder,
} from "../support/program.ts";
import { type Runtime, runtimes } from "../support/runtimes.ts";

const warnings = (program: Program) =>
  program.reports.filter(({ type }) => type === "warning").map(({ message }) => message);

/** The folders of a deploy. */
interface Place {
  folder: string;
  release(number: number): string;
  link: string;
  turn(number: number): void;
}

function deploy(t: TestContext): Place {
  const folder = temporaryFolder(t);
  const link = join(folder, "current");
  const release = (number: number) => join(folder, "releases", String(number));
  for (const number of [1, 2]) mkdirSync(join(release(number), "backend"), { recursive: true });
  const turn = (number: number) => {
    symlinkSync(`releases/${number}`, `${link}.new`);
    renameSync(`${link}.new`, link);
  };
  turn(1);
  return { folder, release, link, turn };
}

/** With a PWD, or without. */
function start(
  t: TestContext,
  runtime: Runtime,
  cwd: string,
  pwd: string | undefined,
  { env, ...more }: StartOptions = {},
): Program {
  return startProgram(t, runtime, {
    cwd,
    env: { PWD: pwd, OPTIONS: JSON.stringify({ probation: 0, idleGrace: 0 }), ...env },
    ...more,
  });
}

/** Turns the link: a reload starts in the other release, and nothing is to be said. */
async function follows(program: Program, { release, turn }: Place): Promise<void> {
  const first = await program.report("start");
  turn(2);
  rmSync(release(1), { recursive: true });
  program.signal(first);
  assert.equal((await program.report("start", { generation: 1 })).cwd, release(2));
  await program.report("reload-end");
  assert.deepEqual(warnings(program), []);
}

for (const runtime of runtimes) {
  for (
    const [what, pwd] of [["no PWD", undefined], ["another directory's PWD", "/usr"], [
      "a PWD that is gone",
      "/no/such",
    ]]
  ) {
    test(`${runtime.name}: ${what}: the program says which link it does not follow, and when it was turned`, async (t) => {
      const { release, link, turn } = deploy(t);
      const program = start(t, runtime, link, pwd);
      const first = await program.report("start");
      assert.equal(warnings(program).length, 1);
      assert.ok(
        warnings(program)[0].includes(
          `the working directory ${release(1)} is also ${link}, a symbolic link`,
        ),
      );
      assert.ok(warnings(program)[0].includes(`systemd: Environment=PWD=${link}`));
      program.signal(first);
      const second = await program.report("start", { generation: 1 });
      await program.report("cancelled", { generation: 0 });
      assert.equal(warnings(program).length, 1, "it is said once");
      turn(2);
      program.signal(second);
      const third = await program.report("start", { generation: 2 });
      assert.equal(third.cwd, release(1));
      assert.equal(warnings(program).length, 2);
      assert.ok(
        warnings(program)[1].includes(
          `${link} leads elsewhere now, and the new process starts in ${release(1)} all the same`,
        ),
      );
    });
  }

  test(`${runtime.name}: what the warning asks for fixes it`, async (t) => {
    const place = deploy(t);
    await follows(start(t, runtime, place.link, place.link), place);
  });

  test(`${runtime.name}: npm --prefix current start: the link is followed`, async (t) => {
    const place = deploy(t);
    // As npm 11 sets them.
    const env = { npm_config_local_prefix: place.link };
    await follows(start(t, runtime, place.release(1), place.release(1), { env }), place);
  });

  test(`${runtime.name}: a PWD that a shell has set below pnpm -C: only a link that was turned is worth a warning`, async (t) => {
    const { release, link, turn } = deploy(t);
    const program = start(t, runtime, link, release(1));
    const first = await program.report("start");
    program.signal(first);
    const second = await program.report("start", { generation: 1 });
    await program.report("cancelled", { generation: 0 });
    assert.deepEqual(warnings(program), []);
    turn(2);
    program.signal(second);
    const third = await program.report("start", { generation: 2 });
    assert.equal(third.cwd, release(1));
    assert.match(String(warnings(program)), new RegExp(`^${link} leads elsewhere now`));
  });
}

const [runtime] = runtimes as [Runtime];

test("a folder of the release: the link is named with it", async (t) => {
  const { release, link } = deploy(t);
  const program = start(t, runtime, join(link, "backend"), undefined);
  await program.report("start");
  assert.ok(
    warnings(program)[0].includes(`${release(1)}/backend is also ${link}/backend, a symbolic link`),
  );
});

test("no warning where the release itself was meant, or where no link leads to it", async (t) => {
  const { release, link } = deploy(t);
  symlinkSync("/nowhere", join(release(1), "..", "broken"));
  const places: [string, string | undefined][] = [
    [release(1), release(1)],
    [release(2), undefined],
    [link, release(1)],
    [
      "/",
      undefined,
    ],
  ];
  for (const [cwd, pwd] of places) {
    const program = start(t, runtime, cwd, pwd);
    await program.report("start");
    assert.deepEqual(warnings(program), [], `${cwd} ${pwd}`);
  }
});

const deno = runtimes.find(({ kind }) => kind === "deno");
test("deno: only with --allow-read it looks for the link", {
  skip: deno === undefined && "not asked for",
}, async (t) => {
  const { folder, link } = deploy(t);
  const script = join(folder, "program.ts");
  writeFileSync(
    script,
    `import { listen } from ${JSON.stringify(join(root, "mod.ts"))};
const token = listen({ onEvent: (event) => console.log(JSON.stringify({ ...event, pid: Deno.pid, generation: token.generation })) });
await token.inheritedState;
console.log(JSON.stringify({ type: "start", pid: Deno.pid, generation: token.generation }));
await token.cancelled();`,
  );
  const flags = ["run", "--quiet", "--allow-env", `--allow-run=${deno?.executable}`];
  for (const [read, count] of [[`--allow-read=${folder}`, 1], ["--deny-read", 0]] as const) {
    const program = start(t, deno as Runtime, link, undefined, { script, flags: [...flags, read] });
    program.signal(await program.report("start"));
    await program.report("reload-end");
    assert.equal(warnings(program).length, count);
  }
});
