/** `npm run demo`, as someone sees it who does not look at a terminal. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { root, run } from "../support/package.ts";

test("npm run demo: reloads on each runtime, a version that is rolled back, and nothing lost", async () => {
  const { stdout } = await run("npm", ["run", "--silent", "demo"], { cwd: root });
  const lines = stdout.split("\n");
  const count = (match: RegExp) => lines.filter((line) => match.test(line)).length;
  const servers = /^ {2}(?:node:http|Deno\.serve|Bun\.serve) +/.source;
  assert.equal(
    count(
      new RegExp(`${servers}reloaded +pid (\\d+) → (?!\\1)\\d+ in \\d+ ms, version [23] answers$`),
    ),
    6,
    stdout,
  );
  assert.equal(
    count(new RegExp(`${servers}rolled back +pid \\d+ exited with code 1; pid \\d+ goes on$`)),
    3,
    stdout,
  );
  // Requests, failed, reconnected, messages of WebSockets, slowest.
  assert.equal(count(new RegExp(`${servers}[\\d,]{3,} +0 +0 +[\\d,]{2,} +\\d+ ms$`)), 3, stdout);
  assert.match(stdout, /\n {2}[\d,]+ requests: 0 failed, 0 reconnected\n$/);
  assert.deepEqual(lines.filter((line) => line.length > 80), []);
  // deno-lint-ignore no-control-regex
  assert.doesNotMatch(stdout, /[\x1b\r]/, "no colours where there is no terminal");
});
