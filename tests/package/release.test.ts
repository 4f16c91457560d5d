/** The check before a release. */
import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { VERSION } from "../../cli/version.ts";
import { pinned } from "../pinned.mjs";
import { root, run } from "../support/package.ts";
import { temporaryFolder } from "../support/program.ts";

test("a release whose tag, changelog and manifests agree is built; another is refused", async (t) => {
  const folder = join(temporaryFolder(t), "dist");
  const release = (tag: string) => run(pinned.node26, [join(root, "tools/release.ts"), tag, folder], { cwd: root });
  assert.match((await release(`v${VERSION}`)).stdout, /To publish it/);
  await assert.rejects(release("v0.0.1"), ({ code, stderr }: { code: number; stderr: string }) => {
    assert.equal(code, 1);
    assert.match(
      stderr,
      new RegExp(`^the tag: 0\\.0\\.1, but jsr\\.json has version ${VERSION.replaceAll(".", "\\.")}$`, "m"),
    );
    return true;
  });
  rmSync(folder, { recursive: true });
});
