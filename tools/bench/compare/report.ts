/** The results as a table in Markdown, and as a picture. */
import { quantile } from "../../../tests/support/median.ts";
import type { Start, StartupCost } from "../startup.ts";
import type { Result, Sample } from "./measure.ts";

function markdown(header: readonly string[], rows: readonly string[][]): string {
  return [header, header.map(() => "---"), ...rows].map((row) => `| ${row.join(" | ")} |`).join("\n");
}

/** The median, with the smallest and the largest. */
function spread(numbers: readonly number[], digits = 0): string {
  if (numbers.length === 0) return "";
  const [least, median, most] = [0, 0.5, 1].map((part) => quantile(numbers, part).toFixed(digits));
  return least === most ? median as string : `${median} (${least}–${most})`;
}

/** By reload: what comes of its requests. */
function byReload<Value>({ samples, untilNew }: Result, of: (samples: readonly Sample[]) => Value): Value[] {
  return untilNew.map((_, reload) => of(samples.filter((sample) => sample.reload === reload)));
}

const countFailures = (samples: readonly Sample[]) => samples.filter(({ failed }) => failed).length;

/** By reload: the requests that failed on connections that are kept, or on new ones. */
function failuresOf(result: Result, kept: boolean): number[] {
  return byReload(result, (samples) => countFailures(samples.filter(({ keepsAlive }) => keepsAlive === kept)));
}

const nameOf = ({ subject }: Result) => subject.isOurs ? `**${subject.name}**` : subject.name;

const HEADER = [
  "",
  "failed requests, new connections",
  "failed requests, kept connections",
  "of 100 idle connections closed",
  "of 100 WebSockets closed",
  "ms until the new version answers",
  "memory, MiB",
];

/** What clients notice of a reload. */
export function table(results: readonly Result[]): string {
  const rows = results.map((result) => [
    nameOf(result),
    spread(failuresOf(result, false)),
    spread(failuresOf(result, true)),
    spread(result.closed),
    spread(result.closedWebSockets),
    spread(result.untilNew),
    (result.memory / 2 ** 20).toFixed(0),
  ]);
  return markdown(HEADER, rows);
}

/** The same in a line for the terminal. */
export function summary(result: Result): string {
  const [onNew, onKept] = [false, true].map((kept) => spread(failuresOf(result, kept)));
  const failed = `failed requests per reload: ${onNew} on new connections, ${onKept} on kept ones`;
  return `${result.subject.name.padEnd(26)} ${failed}; the new version answers after ${spread(result.untilNew)} ms`;
}

/** Latencies in the second that begins with the command, otherwise, and how many times as long as otherwise. */
export function latencyTable(results: readonly Result[]): string {
  const isAround = ({ at }: Sample) => at >= 0 && at < 1_000;
  const parts = [["p50", 0.5], ["p99", 0.99], ["max", 1]] as const;
  const rows = results.map((result) => {
    const quantiles = (samples: readonly Sample[], part: number) =>
      quantile(samples.filter(({ failed }) => !failed).map(({ milliseconds }) => milliseconds), part);
    return [
      nameOf(result),
      ...parts.flatMap(([, part]) => {
        const around = byReload(result, (samples) => quantiles(samples.filter(isAround), part));
        const otherwise = byReload(result, (samples) => quantiles(samples.filter((sample) => !isAround(sample)), part));
        const ratios = around.map((time, reload) => time / (otherwise[reload] as number));
        return [spread(around, 1), spread(otherwise, 1), spread(ratios, 1)];
      }),
    ];
  });
  return markdown(["", ...parts.flatMap(([name]) => [`${name}, reload`, "otherwise", "times"])], rows);
}

/** What the library costs a start, by runtime. */
export function costTable(costs: readonly { name: string; cost: StartupCost }[]): string {
  const show = ({ milliseconds, memory }: Start) => [milliseconds.toFixed(1), (memory / 2 ** 20).toFixed(1)];
  const rows = costs.map(({ name, cost: { empty, added } }) => [name, ...show(empty), ...show(added)]);
  const header = ["", "empty program, ms", "MiB", "`listen()` adds, ms", "MiB"];
  return markdown(header, rows);
}

const FROM_MS = -500;
const TO_MS = 3_000;
const BUCKET_MS = 50;
const LEFT = 190;
const WIDTH = 640;
const ROW = 46;
const TOP = 46;

/** The picture: a row for each subject, its failed requests and its latency over the time around a reload. */
export function chart(results: readonly Result[]): string {
  const x = (at: number) => LEFT + (at - FROM_MS) / (TO_MS - FROM_MS) * WIDTH;
  const buckets = Array.from({ length: (TO_MS - FROM_MS) / BUCKET_MS }, (_, i) => FROM_MS + i * BUCKET_MS);
  const lines: string[] = [];
  const height = TOP + results.length * ROW + 30;
  results.forEach((result, row) => {
    const { subject, samples } = result;
    const failures = byReload(result, countFailures);
    const base = TOP + (row + 1) * ROW - 8;
    const points: string[] = [];
    const bars: string[] = [];
    for (const bucket of buckets) {
      const inside = samples.filter(({ at }) => at >= bucket && at < bucket + BUCKET_MS);
      const failed = countFailures(inside) / failures.length;
      // A logarithm, so that one failure can be seen beside a thousand.
      const size = Math.min(ROW - 12, failed === 0 ? 0 : 5 + 8 * Math.log10(1 + failed));
      if (failed > 0) {
        bars.push(
          `<rect class="failed" x="${x(bucket).toFixed(1)}" y="${(base - size).toFixed(1)}" width="${
            (WIDTH / buckets.length - 1).toFixed(1)
          }" height="${size.toFixed(1)}"/>`,
        );
      }
      const times = inside.filter((sample) => !sample.failed).map(({ milliseconds }) => milliseconds);
      if (times.length === 0) continue;
      const up = Math.min(ROW - 12, 8 * Math.log10(1 + quantile(times, 0.99)));
      points.push(`${x(bucket + BUCKET_MS / 2).toFixed(1)},${(base - up).toFixed(1)}`);
    }
    const most = Math.max(...failures);
    const verdict = most === 0 ? "none failed" : `up to ${most} failed`;
    lines.push(
      `<text x="${LEFT - 12}" y="${base - 10}" text-anchor="end"${
        subject.isOurs ? ' class="ours"' : ""
      }>${subject.name}</text>`,
      `<line class="axis" x1="${LEFT}" x2="${LEFT + WIDTH}" y1="${base}" y2="${base}"/>`,
      ...bars,
      `<polyline class="latency" points="${points.join(" ")}"/>`,
      `<text x="${LEFT + WIDTH + 10}" y="${base - 10}" class="${most > 0 ? "bad" : "good"}">${verdict}</text>`,
    );
  });
  const ticks = [0, 1_000, 2_000, 3_000].map((at) =>
    `<line class="tick" x1="${x(at)}" x2="${x(at)}" y1="${TOP}" y2="${height - 24}"/>` +
    `<text x="${x(at)}" y="${height - 8}" text-anchor="middle">${at === 0 ? "reload" : `+${at / 1_000} s`}</text>`
  );
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${
    LEFT + WIDTH + 130
  } ${height}" role="img" aria-label="Requests that fail, and latency, around a reload">
<style>
  text { font: 12px system-ui, sans-serif; fill: #57606a }
  .title { font-size: 14px; font-weight: 600 }
  .ours { font-weight: 700; fill: #1f6feb } .bad { fill: #cf222e; font-weight: 700 } .good { fill: #1a7f37; font-weight: 700 }
  .failed { fill: #cf222e } .latency { fill: none; stroke: #1f6feb; stroke-width: 1.5 }
  .axis { stroke: #8c959f; stroke-width: 1 } .tick { stroke: #8c959f; stroke-width: 1; stroke-dasharray: 2 4 }
  @media (prefers-color-scheme: dark) { text { fill: #9198a1 } }
</style>
<text x="12" y="20" class="title">Around a reload: requests that fail (red) and 99th percentile of the latency (blue), both logarithmic</text>
${ticks.join("\n")}
${lines.join("\n")}
</svg>
`;
}
