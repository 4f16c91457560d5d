/** The results as a table in Markdown, and as a picture. */
import { quantile } from "../../../tests/support/median.ts";
import type { Start, StartupCost } from "../startup.ts";
import type { Clients, Result, Sample } from "./measure.ts";

function markdown(header: readonly string[], rows: readonly string[][]): string {
  return [header, header.map(() => "---"), ...rows].map((row) => `| ${row.join(" | ")} |`).join(
    "\n",
  );
}

/** The median, with the smallest and the largest. */
function spread(numbers: readonly number[], digits = 0): string {
  if (numbers.length === 0) return "";
  const [least, median, most] = [0, 0.5, 1].map((part) => quantile(numbers, part).toFixed(digits));
  return least === most ? median as string : `${median} (${least}–${most})`;
}

/** By reload: what comes of its requests. */
function byReload<Value>(
  { samples, untilNew }: Result,
  of: (samples: readonly Sample[]) => Value,
): Value[] {
  return untilNew.map((_, reload) => of(samples.filter((sample) => sample.reload === reload)));
}

const countFailures = (samples: readonly Sample[]) => samples.filter(({ failed }) => failed).length;

/** By reload: the requests of these clients that failed. */
function failuresOf(result: Result, clients: Clients): number[] {
  return byReload(
    result,
    (samples) => countFailures(samples.filter((sample) => sample.clients === clients)),
  );
}

const nameOf = ({ subject }: Result) => subject.isOurs ? `**${subject.name}**` : subject.name;

const HEADER = [
  "",
  "failed requests: wire",
  "new connections",
  "kept connections",
  "cut: HTTP",
  "WebSockets",
  "raw TCP",
  "ms until the new version answers",
  "memory, MiB",
];

/** What clients notice of a reload. */
export function table(results: readonly Result[]): string {
  const rows = results.map((result) => [
    nameOf(result),
    spread(failuresOf(result, "wire")),
    spread(failuresOf(result, "new")),
    spread(failuresOf(result, "kept")),
    spread(result.cut),
    spread(result.cutWebSockets),
    spread(result.leftTcp),
    spread(result.untilNew),
    (result.memory / 2 ** 20).toFixed(0),
  ]);
  return markdown(HEADER, rows);
}

/** The same in a line for the terminal. */
export function summary(result: Result): string {
  const [wire, fresh, kept] = (["wire", "new", "kept"] as const).map((clients) =>
    spread(failuresOf(result, clients))
  );
  const cut = [result.cut, result.cutWebSockets, result.leftTcp].map((counts) =>
    spread(counts) || "-"
  ).join(", ");
  return `${
    result.subject.name.padEnd(26)
  } failed requests per reload: ${wire} behind the wire, ${fresh} on new connections, ` +
    `${kept} on kept ones; cut of 100: HTTP, WebSockets, TCP ${cut}; the new version answers after ${
      spread(result.untilNew)
    } ms`;
}

/** Latencies in the second that begins with the command, and otherwise. */
export function latencyTable(results: readonly Result[]): string {
  const isAround = ({ at }: Sample) => at >= 0 && at < 1_000;
  const isWire = ({ clients }: Sample) => clients === "wire";
  const columns = [
    ["p50", 0.5, false],
    ["p99", 0.99, false],
    ["longest", 1, false],
    ["wire: p50", 0.5, true],
    ["wire: longest", 1, true],
  ] as const;
  const rows = results.map((result) => [
    nameOf(result),
    ...columns.flatMap(([, part, ofWire]) =>
      [true, false].map((around) =>
        spread(
          byReload(result, (samples) => {
            const wanted = samples.filter((sample) =>
              !sample.failed && isAround(sample) === around && isWire(sample) === ofWire
            );
            return quantile(wanted.map(({ milliseconds }) => milliseconds), part);
          }).filter((value) => !Number.isNaN(value)),
          1,
        )
      )
    ),
  ]);
  return markdown(["", ...columns.flatMap(([name]) => [`${name}, reload`, "otherwise"])], rows);
}

/** What the library costs a start, by runtime. */
export function costTable(costs: readonly { name: string; cost: StartupCost }[]): string {
  const show = (
    { milliseconds, memory }: Start,
  ) => [milliseconds.toFixed(1), (memory / 2 ** 20).toFixed(1)];
  const rows = costs.map((
    { name, cost: { empty, added } },
  ) => [name, ...show(empty), ...show(added)]);
  const header = ["", "empty program, ms", "MiB", "`listen()` adds, ms", "MiB"];
  return markdown(header, rows);
}

const FROM_MS = -500;
const TO_MS = 4_000;
const BUCKET_MS = 50;
const LEFT = 180;
const WIDTH = 420;
const ROW = 46;
const TOP = 74;
/** Where the numbers beside the rows stand, and what they are. */
const NUMBERS = [["failed", "requests"], ["HTTP", "cut of 100"], ["WebSockets", "cut of 100"], [
  "raw TCP",
  "cut of 100",
]] as const;
const COLUMN = 74;

/**
 * The picture: a row for each subject, its failed requests and its latency over the time around a
 * reload, and what was cut.
 */
export function chart(results: readonly Result[]): string {
  const x = (at: number) => LEFT + (at - FROM_MS) / (TO_MS - FROM_MS) * WIDTH;
  const column = (i: number) => LEFT + WIDTH + COLUMN * (i + 0.6);
  const height = TOP + results.length * ROW + 30;
  const width = LEFT + WIDTH + COLUMN * NUMBERS.length + 16;
  const rows = results.flatMap((result, i) => rowOf(result, TOP + (i + 1) * ROW - 8, x, column));
  const ticks = [0, 1_000, 2_000, 3_000, 4_000].map((at) =>
    `<line class="tick" x1="${x(at)}" x2="${x(at)}" y1="${TOP}" y2="${height - 24}"/>` +
    `<text x="${x(at)}" y="${height - 8}" text-anchor="middle">${
      at === 0 ? "reload" : `+${at / 1_000} s`
    }</text>`
  );
  const heads = NUMBERS.flatMap((words, i) =>
    words.map((word, line) =>
      `<text x="${column(i)}" y="${TOP - 18 + 14 * line}" text-anchor="middle">${word}</text>`
    )
  );
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" role="img" aria-label="${"Requests that fail, connections that are cut, and latency, around a reload"}">
<style>
  text { font: 12px system-ui, sans-serif; fill: #57606a }
  .title { font-size: 14px; font-weight: 600 }
  .ours { font-weight: 700; fill: #1f6feb } .bad { fill: #cf222e; font-weight: 700 } .good { fill: #1a7f37; font-weight: 700 }
  .failed { fill: #cf222e } .latency { fill: none; stroke: #1f6feb; stroke-width: 1.5 }
  .axis { stroke: #8c959f; stroke-width: 1 } .tick { stroke: #8c959f; stroke-width: 1; stroke-dasharray: 2 4 }
  @media (prefers-color-scheme: dark) { text { fill: #9198a1 } }
</style>
<text x="12" y="20" class="title">A reload, as clients notice it</text>
<text x="12" y="38">red: requests that fail; blue: 99th percentile of the latency (both logarithmic); beside: the most in a reload</text>
${[...ticks, ...heads, ...rows].join("\n")}
</svg>
`;
}

/** The row of a subject, above a line. */
function rowOf(
  result: Result,
  base: number,
  x: (at: number) => number,
  column: (i: number) => number,
): string[] {
  const { subject, samples } = result;
  const points: string[] = [];
  const bars: string[] = [];
  for (let bucket = FROM_MS; bucket < TO_MS; bucket += BUCKET_MS) {
    const inside = samples.filter(({ at }) => at >= bucket && at < bucket + BUCKET_MS);
    const failed = countFailures(inside) / result.untilNew.length;
    if (failed > 0) {
      // A logarithm, so that one failure can be seen beside a thousand.
      const size = Math.min(ROW - 12, 5 + 8 * Math.log10(1 + failed));
      const thickness = x(BUCKET_MS) - x(0) - 1;
      bars.push(
        `<rect class="failed" x="${x(bucket).toFixed(1)}" y="${(base - size).toFixed(1)}" width="${
          thickness.toFixed(1)
        }" ` +
          `height="${size.toFixed(1)}"/>`,
      );
    }
    // The wire is always slower: its clients are for what fails.
    const times = inside.filter((sample) => !sample.failed && sample.clients !== "wire").map((
      { milliseconds },
    ) => milliseconds);
    if (times.length === 0) continue;
    const up = Math.min(ROW - 12, 8 * Math.log10(1 + quantile(times, 0.99)));
    points.push(`${x(bucket + BUCKET_MS / 2).toFixed(1)},${(base - up).toFixed(1)}`);
  }
  const numbers = [
    byReload(result, countFailures),
    result.cut,
    result.cutWebSockets,
    result.leftTcp,
  ].map((counts, i) => {
    const most = counts.length === 0 ? undefined : Math.max(...counts);
    const style = most === undefined ? "" : ` class="${most > 0 ? "bad" : "good"}"`;
    return `<text x="${column(i)}" y="${base - 10}" text-anchor="middle"${style}>${
      most ?? "–"
    }</text>`;
  });
  return [
    `<text x="${LEFT - 12}" y="${base - 10}" text-anchor="end"${
      subject.isOurs ? ' class="ours"' : ""
    }>${subject.name}</text>`,
    `<line class="axis" x1="${x(FROM_MS)}" x2="${x(TO_MS)}" y1="${base}" y2="${base}"/>`,
    ...bars,
    `<polyline class="latency" points="${points.join(" ")}"/>`,
    ...numbers,
  ];
}
