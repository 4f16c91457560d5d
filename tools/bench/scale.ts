/**
 * What a reload costs by size: of connections, of listening sockets, of instances. Writes
 * docs/scale.md.
 */
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { pinned } from "../../tests/pinned.mjs";
import { startServer } from "../../tests/load/rows.ts";
import type { TestScope } from "../../tests/support/clean_up.ts";
import { cli } from "../../tests/support/cli.ts";
import { root } from "../../tests/support/package.ts";
import { freePort } from "../../tests/support/port.ts";
import { isAlive, memoryOf } from "../../tests/support/proc.ts";
import { fixture, type Program, startProgram } from "../../tests/support/program.ts";
import type { Runtime } from "../../tests/support/runtimes.ts";
import { until } from "../../tests/support/wait.ts";
import {
  type Asking,
  keepAsking,
  type Kind,
  moveConnections,
  openConnections,
  QUESTIONS,
} from "./connections.ts";
import { type Bench, runtimesOf } from "./options.ts";
import { scoped } from "./scoped.ts";

/** A measurement: what there were so many of. Times are in milliseconds, memory is in bytes. */
interface Size {
  readonly what: string;
  readonly runtime: string;
  readonly count: number;
  /** From the signal until the new process, or the last of them, was in charge. */
  readonly inCharge: number;
  /** How long connections moved, where they did. */
  readonly moving?: number;
  /** The longest wait of a client. */
  readonly wait: number;
  /** Of all processes: before, and the most during the reload. */
  readonly memory: { readonly before: number; readonly most: number };
  /** Connections that were closed, or that stayed with the old process. */
  readonly lost: number;
}

const OPTIONS = { probation: 1_000, idleGrace: 1_000 };
/** Clients that ask all the time, where it is not about their number. */
const CLIENTS = 16;
const SAMPLE_MS = 20;
const MEBIBYTE = 2 ** 20;

/** The sizes by default. */
const CONNECTIONS = [10, 100, 1_000, 10_000];
const SOCKETS = [1, 4, 16, 64];
const INSTANCES = [1, 4, 16];

/** What each size is limited by, and what ten times more would take. */
const LIMITS: Readonly<Record<string, { limit: string; tenTimes: string }>> = {
  HTTP: {
    limit:
      "the start of the runtime, which does not depend on the number; then one descriptor a connection, and one " +
      "message for each on Node, for 64 on Bun and Deno. They move some at a time, when they are idle, and a client " +
      "waits for its own part only; `Bun.serve` lets go of all at once",
    tenTimes:
      "ten times the time of moving, while both processes serve, and a limit of descriptors (`ulimit -n`) above their " +
      "number in both",
  },
  connections: {
    limit:
      "one message a connection, with its session as JSON; with a state that all share, no client is answered until " +
      "all have moved",
    tenTimes:
      "`independent: true`, with which a client waits for its own connection only, and the limit of descriptors; a " +
      "longer pause otherwise",
  },
  WebSockets: {
    limit:
      "the same, but 64 in one message on Bun and Deno; the handshake of each with the new server, which its client " +
      "does not hear of; and the boundary between two messages: in the middle of one, a WebSocket is asked again later",
    tenTimes: "the same",
  },
  sockets: {
    limit: "the start of the runtime; a socket is one message and one descriptor",
    tenTimes: "nothing: a few milliseconds",
  },
  instances: {
    limit: "the cores: all new processes start at once, and each start is work of one core",
    tenTimes:
      "as many cores, or a reload that takes ten times as long; twice the memory of all instances for that time",
  },
};

/** Follows the memory of all processes of a program. Returns the most that it was. */
function followAll(program: Program): () => number {
  const total = () => program.pids().reduce((sum, pid) => sum + (memoryOf(pid) || 0), 0);
  let most = 0;
  const timer = setInterval(() => most = Math.max(most, total()), SAMPLE_MS);
  return () => {
    clearInterval(timer);
    return Math.max(most, total());
  };
}

/** Waits until each client has been answered by the processes that are there now. */
async function answeredAgain(asking: readonly Asking[]): Promise<void> {
  for (const client of asking) client.answers = 0;
  await until("all to be answered again", () => asking.every(({ answers }) => answers > 1));
}

/** So many connections, most of which are silent. */
async function measureConnections(
  t: TestScope,
  runtime: Runtime,
  what: Kind,
  count: number,
): Promise<Size> {
  const { inCharge, moving, waits, cut, left, memory } = await moveConnections(
    t,
    runtime,
    what,
    count,
    false,
  );
  const { before, old, next } = memory;
  return {
    what,
    runtime: runtime.name,
    count,
    inCharge,
    moving,
    wait: waits.max,
    memory: { before, most: old + next },
    lost: cut + left,
  };
}

/** So many listening sockets, with clients on all of them. */
async function measureSockets(t: TestScope, runtime: Runtime, count: number): Promise<Size> {
  const kind = runtime.kind === "node" ? "http" : "adopted";
  const { program, first } = await startServer(t, runtime, {
    kind,
    ports: Array(count).fill(0),
    options: OPTIONS,
  });
  const { sockets, cut } = await openConnections(t, first.ports, "HTTP", Math.max(CLIENTS, count));
  return await measureReload(program, sockets.map((socket) => keepAsking(socket, QUESTIONS.HTTP)), {
    what: "sockets",
    runtime: runtime.name,
    count,
    cut,
    reload: () => program.signal(first),
    isInCharge: () =>
      program.reports.some(({ type, generation }) => type === "in-charge" && generation === 1),
    isOver: () => !isAlive(first.pid),
  });
}

/** So many instances of `reload-self run`, on one port. */
async function measureInstances(t: TestScope, runtime: Runtime, count: number): Promise<Size> {
  const port = await freePort();
  const kind = runtime.kind === "node" ? "http" : "adopted";
  const setup = { kind, ports: [port], host: "127.0.0.1", options: OPTIONS };
  const program = startProgram(t, runtime, {
    command: [
      ...cli(runtime),
      "run",
      ...(count > 1 ? ["--instances", String(count)] : []),
      "--",
      runtime.executable,
      ...runtime.flags,
      fixture("server.ts"),
    ],
    env: { SERVER: JSON.stringify(setup) },
  });
  const those = (type: string, of: number) =>
    program.reports.filter((report) => report.type === type && report.generation === of).map((
      { pid },
    ) => pid);
  await until("all instances", () => new Set(those("serving", 0)).size === count);
  const { sockets, cut } = await openConnections(t, [port], "HTTP", CLIENTS);
  return await measureReload(program, sockets.map((socket) => keepAsking(socket, QUESTIONS.HTTP)), {
    what: "instances",
    runtime: runtime.name,
    count,
    cut,
    reload: () => program.signal(program.process.pid as number),
    isInCharge: () => those("in-charge", 1).length === count,
    isOver: () => those("serving", 0).every((pid) => !isAlive(pid)),
  });
}

interface Reloading extends Pick<Size, "what" | "runtime" | "count"> {
  cut(): number;
  reload(): void;
  isInCharge(): boolean;
  /** Whether the old processes are gone. */
  isOver(): boolean;
}

async function measureReload(
  program: Program,
  asking: readonly Asking[],
  reloading: Reloading,
): Promise<Size> {
  const { what, runtime, count, cut, reload, isInCharge, isOver } = reloading;
  await answeredAgain(asking);
  for (const client of asking) client.longest = 0;
  const before = program.pids().reduce((sum, pid) => sum + (memoryOf(pid) || 0), 0);
  const most = followAll(program);
  const begun = performance.now();
  reload();
  await until("the new processes to be in charge", isInCharge);
  const inCharge = performance.now() - begun;
  await until("the old processes to be gone", isOver);
  await answeredAgain(asking);
  const wait = Math.max(...asking.map(({ longest }) => longest));
  return { what, runtime, count, inCharge, wait, memory: { before, most: most() }, lost: cut() };
}

/** The line of a table. */
function rowOf({ runtime, count, inCharge, moving, wait, memory }: Size): string[] {
  const mebibytes = (bytes: number) => (bytes / MEBIBYTE).toFixed(0);
  return [
    runtime,
    String(count),
    inCharge.toFixed(0),
    ...(moving === undefined ? [] : [moving.toFixed(0)]),
    wait.toFixed(0),
    mebibytes(memory.before),
    mebibytes(memory.most),
  ];
}

const TITLES: readonly (readonly [what: string, title: string, noun: string])[] = [
  ["HTTP", "HTTP connections", "connections"],
  ["connections", "Connections of `token.live()`", "connections"],
  ["WebSockets", "WebSockets", "WebSockets"],
  ["sockets", "Listening sockets", "sockets"],
  ["instances", "Instances", "instances"],
];

/** The page. */
function page(sizes: readonly Size[]): string {
  const parts = TITLES.map(([what, title, noun]) => {
    const found = sizes.filter((size) => size.what === what);
    const moves = found.some(({ moving }) => moving !== undefined);
    const header = [
      "",
      noun,
      "in charge after, ms",
      ...(moves ? ["moving, ms"] : []),
      "longest wait, ms",
      "memory, MiB",
      "at most",
    ];
    const rows = [header, header.map(() => "---"), ...found.map(rowOf)].map((row) =>
      `| ${row.join(" | ")} |`
    ).join("\n");
    const { limit, tenTimes } = LIMITS[what] as { limit: string; tenTimes: string };
    return `## ${title}\n\nThe limit is ${limit}. Ten times more takes ${tenTimes}.\n\n${rows}\n`;
  });
  return `# Cost against size

Written by \`npm run bench -- scale\` on ${
    new Date().toISOString().slice(0, 10)
  }, with ${availableParallelism()} cores, clients and servers together. One reload of each size, with a probation of a second.

- **In charge after**: from the signal until the new process serves, while the old one does. With instances: the last of them.
- **Longest wait** of a client that asks all the time: at most a hundred of the connections, spread over all.
- **Memory** of all processes before, and the most during the reload, when there are two of each.

No connection was closed in any of them, unless a line says so.

${parts.join("\n")}${lostLines(sizes)}`;
}

function lostLines(sizes: readonly Size[]): string {
  const lost = sizes.filter((size) => size.lost > 0);
  if (lost.length === 0) return "";
  return `\n## Closed\n\n${
    lost.map(({ what, runtime, count, lost }) => `- ${runtime}, ${count} ${what}: ${lost}`).join(
      "\n",
    )
  }\n`;
}

/** Measures all sizes, prints a line for each, and writes the page. */
export async function scale({ asked, isWanted, print }: Bench): Promise<void> {
  const sizes: Size[] = [];
  const runtimes = runtimesOf(asked, true);
  async function measure(
    what: string,
    counts: readonly number[],
    how: (t: TestScope, runtime: Runtime, count: number) => Promise<Size>,
  ) {
    if (!isWanted(what)) return;
    for (const runtime of runtimes) {
      for (const count of counts) {
        await scoped(async (t) => {
          const size = await how(t, runtime, count);
          sizes.push(size);
          const { inCharge, moving, wait, memory, lost } = size;
          const parts = [
            `in charge after ${inCharge.toFixed(0)} ms`,
            ...(moving === undefined ? [] : [`moving for ${moving.toFixed(0)} ms`]),
            `longest wait ${wait.toFixed(0)} ms`,
            `memory ${(memory.before / MEBIBYTE).toFixed(0)} MiB, at most ${
              (memory.most / MEBIBYTE).toFixed(0)
            }`,
            `${lost} closed`,
          ];
          print(lost === 0, `${runtime.name}, ${count} ${what}`.padEnd(28), ...parts);
        });
      }
    }
  }
  const connections = asked.numbers("connections", CONNECTIONS);
  for (const kind of ["HTTP", "connections", "WebSockets"] as const) {
    await measure(
      kind,
      connections,
      (t, runtime, count) => measureConnections(t, runtime, kind, count),
    );
  }
  await measure("sockets", asked.numbers("sockets", SOCKETS), measureSockets);
  await measure("instances", asked.numbers("instances", INSTANCES), measureInstances);
  const folder = asked.text("output") ??
    (asked.text("rows") === undefined ? join(root, "docs") : undefined);
  if (folder === undefined) return;
  const file = join(folder, "scale.md");
  writeFileSync(file, page(sizes));
  execFileSync(pinned.deno, ["fmt", "--quiet", file]);
}
