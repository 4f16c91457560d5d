/** Compares this project with what a user would pick instead: `npm run bench` writes docs/benchmark.md and docs/benchmark.svg. */
import { execFileSync, spawnSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { pinned } from "../../../tests/pinned.mjs";
import { freePort } from "../../../tests/support/port.ts";
import { pack, unpack } from "../../../tests/support/package.ts";
import { temporaryFolder } from "../../../tests/support/program.ts";
import { runtimes } from "../../../tests/support/runtimes.ts";
import { scoped } from "../scoped.ts";
import { compressedSize, startup, type StartupCost } from "../startup.ts";
import { measure, type Result } from "./measure.ts";
import { chart, costTable, latencyTable, summary, table } from "./report.ts";
import { createStage, subjects, type Tool } from "./subjects.ts";

const docs = join(dirname(dirname(dirname(fileURLToPath(import.meta.url)))), "docs");
const RELOADS = Number(process.env.RELOADS ?? 5);
const ROUNDS = 9;

/** The first line of what a program says of its version; `undefined` where it is not installed. */
function versionOf({ version }: Tool): string | undefined {
  const { status, stdout } = spawnSync("sh", ["-c", `${version} 2>&1`], { encoding: "utf8" });
  return status === 0 ? stdout.split("\n")[0] : undefined;
}

/** What the library costs a start, as it is published. */
async function measureCosts() {
  const costs: { name: string; cost: StartupCost }[] = [];
  let bytes = 0;
  await scoped(async (t) => {
    const folder = temporaryFolder(t);
    const project = await unpack(await pack(folder), folder);
    bytes = compressedSize(project, "mod.js");
    for (const runtime of runtimes) costs.push({ name: runtime.name, cost: await startup(runtime, project, ROUNDS) });
  });
  return { costs, bytes };
}

/** Measures all subjects whose names contain a text, one after the other. */
export async function compare(only: string): Promise<void> {
  const results: Result[] = [];
  const versions: string[] = [];
  for (const subject of subjects.filter(({ name }) => name.includes(only))) {
    const version = subject.needs && versionOf(subject.needs);
    if (version !== undefined) versions.push(version);
    else if (subject.needs !== undefined) {
      console.log(`${subject.name.padEnd(26)} not measured: apt-get install ${subject.needs.packages}`);
      continue;
    }
    await scoped(async (t) => {
      const stage = await createStage(t, temporaryFolder(t), await freePort(), randomUUID());
      results.push(await measure(subject, stage, RELOADS));
    });
    console.log(summary(results.at(-1) as Result));
  }
  if (only !== "") return;
  const { costs, bytes } = await measureCosts();
  writeFileSync(join(docs, "benchmark.svg"), chart(results));
  writeFileSync(
    join(docs, "benchmark.md"),
    `# Benchmark

Written by \`npm run bench\` on ${
      new Date().toISOString().slice(0, 10)
    }, with ${availableParallelism()} cores: ${RELOADS} reloads of each
server, four seconds apart. Eight clients ask on a new connection each time, eight keep theirs, all every 2 ms; a hundred more
connections, and a hundred WebSockets, are open and idle. A connection that is closed between two requests is no failure. Shown are
medians of the reloads, with the smallest and the largest.${versions.map((version) => ` ${version}.`).join("")}

![Requests that fail, and latency, around a reload](benchmark.svg)

All servers answer with a few bytes. nginx, HAProxy and gunicorn are given a new configuration or program, with one worker each, as
Debian packages them. PM2 runs one instance in cluster mode with \`--wait-ready\`; the server closes on its signal, as its
documentation says. \`node:cluster\` is the usual program: a new worker, and when it listens, the old one disconnects. The program
in Go is the one of tableflip's documentation. All are in [\`bench/compare\`](../bench/compare).

## A reload

${table(results)}

## Latency

In milliseconds, in the second that begins with the command and otherwise, and how many times as long.

${latencyTable(results)}

## A start

With the library, against an empty program; medians of ${ROUNDS}. A server loads ${
      (bytes / 1024).toFixed(1)
    } KiB (gzipped) at its start.

${costTable(costs)}
`,
  );
  execFileSync(pinned.deno, ["fmt", "--quiet", join(docs, "benchmark.md"), join(docs, "benchmark.svg")]);
}
