/**
 * Every benchmark in its smallest size: it runs to its end, finds nothing wrong, and says what it
 * is for.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { cleanUp, type TestScope } from "../support/clean_up.ts";
import { temporaryFolder } from "../support/program.ts";

const script = fileURLToPath(new URL("../../tools/bench/run.ts", import.meta.url));

/** Runs benchmarks, and returns their exit code and what they wrote. */
async function bench(
  t: TestScope,
  ...args: string[]
): Promise<{ code: number | null; text: string }> {
  const { RUNTIMES: _, ...env } = process.env;
  const child = spawn(process.execPath, [script, ...args], {
    env,
    stdio: ["ignore", "pipe", "pipe"],
  });
  cleanUp(t, () => child.kill());
  let text = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (data) => text += data);
  const code = await new Promise<number | null>((resolve) => child.once("close", resolve));
  return { code, text };
}

test("reloads: a native server on a port", async (t) => {
  const { code, text } = await bench(t, "reloads", "--reloads", "3", "--rows", "Bun.serve, TCP");
  assert.equal(code, 0, text);
  assert.match(
    text,
    /ok +Bun\.serve, TCP +3 reloads, 0 of \d+ requests failed .*: none more than after one reload/,
  );
});

test("wire: a server of each kind that moves its connections, and one for comparison", async (t) => {
  const size = ["--clients", "5", "--reloads", "1"];
  const [ours, other] = await Promise.all([
    bench(t, "wire", ...size, "--rows", "Deno.serve", "--runtime", "deno"),
    bench(t, "wire", ...size, "--rows", "node:cluster"),
  ]);
  assert.equal(ours.code, 0, ours.text);
  assert.match(
    ours.text,
    /ok +Deno\.serve +5 clients, 1 reloads +0 of \d+ requests failed, 5 connections made/,
  );
  assert.equal(other.code, 0, other.text);
  assert.match(
    other.text,
    /node:cluster, by hand +5 clients, 1 reloads +\d+ of \d+ requests failed/,
  );
});

test("compare: the pages are written", async (t) => {
  const folder = temporaryFolder(t);
  const size = ["--reloads", "1", "--rounds", "1", "--runtime", "bun", "--output", folder];
  const { code, text } = await bench(t, "compare", "--rows", "Bun.serve", ...size);
  assert.equal(code, 0, text);
  const page = readFileSync(join(folder, "benchmark.md"), "utf8");
  assert.match(
    page,
    /\| \*\*reload-self, Bun\.serve\*\* +\| 0 +\| 0 +\| 0 +\| 0 +\| 0 +\| 0 +\| \d+ +\| \d+ +\|/,
    page,
  );
  assert.match(
    readFileSync(join(folder, "benchmark.svg"), "utf8"),
    /class="ours">reload-self, Bun\.serve</,
  );
});

test("scale: the page is written", async (t) => {
  const folder = temporaryFolder(t);
  const size = [
    "--connections",
    "5",
    "--sockets",
    "2",
    "--instances",
    "2",
    "--runtime",
    "bun",
    "--output",
    folder,
  ];
  const { code, text } = await bench(t, "scale", ...size);
  assert.equal(code, 0, text);
  const page = readFileSync(join(folder, "scale.md"), "utf8");
  for (
    const title of [
      "HTTP connections",
      "Connections of",
      "WebSockets",
      "Listening sockets",
      "Instances",
    ]
  ) {
    assert.match(
      page,
      new RegExp(
        `^## ${title}.*\\n\\nThe limit is [^|]*\\n\\n\\|[^|]*\\|[^]*?\\| bun +\\| +[25] +\\| +\\d+`,
        "m",
      ),
      page,
    );
  }
});

test("day: a few seconds of reloads", async (t) => {
  const { code, text } = await bench(
    t,
    "day",
    "--minutes",
    "0.15",
    "--seed",
    "1",
    "--runtime",
    "bun",
    "--rows",
    "a reload",
  );
  assert.equal(code, 0, text);
  assert.match(
    text,
    /ok +bun +seed 1, 0\.15 minutes: \d+ reloads done, 0 failed, .* 0 lost, 0 doubled, 0 leaked, 0 broken/,
  );
  assert.match(text, /\| bun \| 0\.15 \|/);
});

/** Those that measure times: whether a goal is met says nothing on a machine that runs tests. */
const others: [args: string[], expected: RegExp][] = [
  [
    ["load", "--reloads", "2", "--rows", "bun node:http, unix"],
    /ok +bun node:http, unix, keep, every second one crashes +0 failures/,
  ],
  [["latency", "--rounds", "1"], /bun native +bare start [\d.]+ ms +reload [\d.]+ ms +ratio/],
  [["startup", "--rounds", "1"], /bun +empty program [\d.]+ ms.* +listen\(\) adds/],
  [["connections", "--connections", "20"], /bun, each by itself +20 WebSockets moved/],
  [["auto", "--rounds", "1", "--rows", "bun bun"], /bun adopted +start [\d.]+ ms, and .* ratio/],
  [
    ["throughput", "--rounds", "1", "--rows", "adopted"],
    /bun adopted +new +connections +without \d+\/s +with \d+\/s/,
  ],
  [["parent"], /ok +bun +reload-self run: [\d.]+ MiB/],
  [
    ["faults", "--rows", "Bun.serve: new: exits at start"],
    /\| new: exits at start \| 0 of \d+ \|\nok +0 promises broken/,
  ],
  [["soak", "--reloads", "4"], /bun +4 reloads, 0 failures/],
];
for (const [args, expected] of others) {
  test(args.join(" "), async (t) => {
    const { code, text } = await bench(t, ...args, "--runtime", "bun");
    assert.ok(code === 0 || code === 1, text);
    assert.match(text, expected);
  });
}

test("a part or an option that does not exist is named, with what there is", async (t) => {
  for (
    const args of [["speed"], ["wire", "--speed", "3"], ["wire", "--clients", "many"], [
      "wire",
      "--runtime",
      "perl",
    ]]
  ) {
    const { code, text } = await bench(t, ...args);
    assert.equal(code, 2, text);
    assert.match(text, /speed|many|perl/);
    assert.match(text, /benchmarks: all, compare/);
  }
});
