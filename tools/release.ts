/**
 * Checks that a release is what its tag promises, and builds it: `npm run release -- v0.5.0`. It
 * publishes nothing: it prints the commands that do.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { build } from "./build.ts";

const [tag = "", folder = "dist"] = process.argv.slice(2);
const version = await build(folder);
const manifest = (name: string) =>
  `${JSON.parse(readFileSync(join(folder, name), "utf8")).version}`;
const found: Record<string, string | undefined> = {
  "the tag": tag.replace(/^v/, ""),
  "CHANGELOG.md": /^## (\S+)/m.exec(readFileSync("CHANGELOG.md", "utf8"))?.[1],
  "cli/version.ts": /VERSION = "([^"]+)"/.exec(readFileSync("cli/version.ts", "utf8"))?.[1],
  "the manifest for npm": manifest("package.json"),
  "the manifest for JSR": manifest("jsr.json"),
};
const wrong = Object.entries(found).filter(([, other]) => other !== version);
for (const [where, other] of wrong) {
  console.error(`${where}: ${other || "none"}, but jsr.json has version ${version}`);
}
if (wrong.length > 0) process.exit(1);
// Only a workflow can prove where it was built: .github/workflows/release.yml runs these commands.
const provenance = process.env.GITHUB_ACTIONS === undefined ? "" : " --provenance";
console.log(`${version} is built in ${folder}. To publish it:

  npm publish ${folder} --access public${provenance}
  cd ${folder} && DENO_NO_PACKAGE_JSON=1 deno publish`);
