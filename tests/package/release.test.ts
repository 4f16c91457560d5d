/** The check before a release. */
import assert from "node:assert/strict";
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { VERSION } from "../../cli/version.ts";
import { pinned } from "../pinned.mjs";
import { pathWith, root, run } from "../support/package.ts";
import { temporaryFolder } from "../support/program.ts";

test("a release whose tag, changelog and manifests agree is built; another is refused", async (t) => {
  const folder = join(temporaryFolder(t), "dist");
  const release = (tag: string) =>
    run(pinned.node26, [join(root, "tools/release.ts"), tag, folder], { cwd: root });
  assert.match((await release(`v${VERSION}`)).stdout, /To publish it/);
  await assert.rejects(release("v0.0.1"), ({ code, stderr }: { code: number; stderr: string }) => {
    assert.equal(code, 1);
    assert.match(
      stderr,
      new RegExp(
        `^the tag: 0\\.0\\.1, but jsr\\.json has version ${VERSION.replaceAll(".", "\\.")}$`,
        "m",
      ),
    );
    return true;
  });
  rmSync(folder, { recursive: true });
});

test("the workflow runs what a release prints; what JSR checks before it takes the package succeeds", async (t) => {
  const workflow = readFileSync(join(root, ".github/workflows/release.yml"), "utf8");
  const runs = [...workflow.matchAll(/^ +- run: (.*)$/gm)].map(([, command]) => command as string);
  const { scripts } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  for (const [, script] of runs.join("\n").matchAll(/^npm run ([\w:]+)/gm)) {
    assert.ok(script as string in scripts, script);
  }
  assert.match(workflow, /^ {6}id-token: write\b/m);

  const place = temporaryFolder(t);
  const env = {
    ...process.env,
    NO_COLOR: "1",
    GITHUB_ACTIONS: "true",
    GITHUB_SERVER_URL: "https://example.org",
    GITHUB_REPOSITORY: "some/where",
    PATH: pathWith(place, { deno: pinned.deno }),
  };
  const folder = join(place, "dist");
  const args = [join(root, "tools/release.ts"), `v${VERSION}`, folder];
  const { stdout } = await run(pinned.node26, args, { cwd: root, env });
  const printed = [...stdout.matchAll(/^ {2}(.*)$/gm)].map(([, command]) => command as string);
  assert.equal(printed.length, 2);
  const at = runs.indexOf(`npm run release -- "$GITHUB_REF_NAME"`);
  assert.deepEqual(
    printed.map((command) => command.replaceAll(folder, "dist")),
    runs.slice(at + 1),
  );
  assert.ok(runs.indexOf("npm run test:package") < at);
  const { repository } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  assert.deepEqual(repository, { type: "git", url: "git+https://example.org/some/where.git" });

  const { stderr } = await run("/bin/sh", ["-c", `${printed[1]} --dry-run --allow-dirty`], { env })
    .catch((error) => error);
  assert.match(stderr, /Success Dry run complete/);
});
