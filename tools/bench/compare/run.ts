/**
 * Compares this project with what a user would pick instead: `npm run bench` writes
 * docs/benchmark.md and docs/benchmark.svg.
 */
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { pinned } from "../../../tests/pinned.mjs";
import { pack, root, unpack } from "../../../tests/support/package.ts";
import { temporaryFolder } from "../../../tests/support/program.ts";
import { type Asked, type Bench, runtimesOf } from "../options.ts";
import { scoped } from "../scoped.ts";
import { compressedSize, startup, type StartupCost } from "../startup.ts";
import { LONG_LIVED, measure, type Result } from "./measure.ts";
import { chart, costTable, latencyTable, summary, table } from "./report.ts";
import { prepareStage } from "./stage.ts";
import { subjects, versionOf, whyNot } from "./subjects.ts";

/** What nobody has measured here, and why. */
const NEVER = [
  "Rust with shellflip: its crate and those that it needs are not among Debian's packages; by its own example it hands over no listening sockets, so that a server needs SO_REUSEPORT",
];

/** What the library costs a start, as it is published. */
async function measureCosts(asked: Asked, rounds: number) {
  const costs: { name: string; cost: StartupCost }[] = [];
  let bytes = 0;
  await scoped(async (t) => {
    const folder = temporaryFolder(t);
    const project = await unpack(await pack(folder), folder);
    bytes = compressedSize(project, "mod.js");
    for (const runtime of runtimesOf(asked)) {
      costs.push({ name: runtime.name, cost: await startup(runtime, project, rounds) });
    }
  });
  return { costs, bytes };
}

/**
 * Measures all subjects that were asked for, one after the other. The pages are written when that
 * is all of them, or where it is said.
 */
export async function compare({ asked, isWanted, print }: Bench): Promise<void> {
  const results: Result[] = [];
  const versions: string[] = [];
  const missing: string[] = [];
  const measuring = { reloads: asked.number("reloads", 5), latency: asked.number("latency", 10) };
  for (const subject of subjects.filter(({ name }) => isWanted(name))) {
    const why = whyNot(subject);
    if (why !== undefined) {
      missing.push(`${subject.name}: it is not installed (${why})`);
      print(true, `${subject.name.padEnd(26)} not measured: ${why}`);
      continue;
    }
    const version = subject.needs && versionOf(subject.needs);
    if (version !== undefined) versions.push(version);
    await scoped(async (t) =>
      void results.push(await measure(subject, await prepareStage(t), measuring))
    );
    print(true, summary(results.at(-1) as Result));
  }
  const folder = asked.text("output") ??
    (asked.text("rows") === undefined ? join(root, "docs") : undefined);
  if (folder === undefined) return;
  const rounds = asked.number("rounds", 9);
  const { costs, bytes } = await measureCosts(asked, rounds);
  writeFileSync(join(folder, "benchmark.svg"), chart(results));
  writeFileSync(
    join(folder, "benchmark.md"),
    `# Benchmark

Written by \`npm run bench\` on ${
      new Date().toISOString().slice(0, 10)
    }, with ${availableParallelism()} cores: ${measuring.reloads} reloads of each server, five seconds apart. All answer with a
few bytes.

- **Wire**: ${LONG_LIVED} clients behind a relay of ${measuring.latency} ms each way. Each keeps its connection, sends a POST every 0.2
  to 3 s, and never sends one again. ${LONG_LIVED} WebSockets and ${LONG_LIVED} connections of raw TCP are open behind it too.
- **New**, **kept**: eight clients without a wire that ask every 2 ms on a connection of its own, and eight that keep theirs. A
  connection that is closed between two requests is no failure.

Shown are medians of the reloads, with the smallest and the largest.${
      versions.map((version) => ` ${version}.`).join("")
    }

![Requests that fail, connections that are cut, and latency, around a reload](benchmark.svg)

nginx, HAProxy and gunicorn are given a new configuration or program, with one worker each, as Debian packages them; they have
no raw TCP and no WebSockets of their own. PM2 runs one instance in cluster mode with \`--wait-ready\`; the server closes on its
signal, as its documentation says. \`node:cluster\` is the usual program: a new worker, and when it listens, the old one
disconnects. The program in Go is the one of tableflip's documentation. All are in
[\`tools/bench/compare\`](../tools/bench/compare).

Not measured:

${[...missing, ...NEVER].map((line) => `- ${line}`).join("\n")}

## A reload

Of ${LONG_LIVED} HTTP connections those that had to be made anew, of ${LONG_LIVED} WebSockets those that were closed, of ${LONG_LIVED}
connections of raw TCP those that were closed or still have the old version five seconds later.

${table(results)}

## Latency

In milliseconds, in the second that begins with the command and otherwise; without the wire, and with it.

${latencyTable(results)}

## A start

With the library, against an empty program; medians of ${rounds}. A server loads ${
      (bytes / 1024).toFixed(1)
    } KiB (gzipped) at its start.

${costTable(costs)}
`,
  );
  execFileSync(pinned.deno, [
    "fmt",
    "--quiet",
    join(folder, "benchmark.md"),
    join(folder, "benchmark.svg"),
  ]);
}
