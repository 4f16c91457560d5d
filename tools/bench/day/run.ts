/**
 * A whole day in as many minutes as are asked for: reloads and faults at random moments, under
 * clients of all kinds.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { type Scene, settled, smallDisk } from "../../../tests/faults/faults.ts";
import { cleanUp, type TestScope } from "../../../tests/support/clean_up.ts";
import { freePort } from "../../../tests/support/port.ts";
import { childrenOf, isAlive } from "../../../tests/support/proc.ts";
import {
  fixture,
  type Program,
  type Report,
  startProgram,
  temporaryFolder,
} from "../../../tests/support/program.ts";
import { leaksBetween, type Resources, resourcesOf } from "../../../tests/support/resources.ts";
import type { Runtime } from "../../../tests/support/runtimes.ts";
import { until } from "../../../tests/support/wait.ts";
import { type Bench, runtimesOf } from "../options.ts";
import { scoped } from "../scoped.ts";
import { type Chronicle, createChronicle } from "./chronicle.ts";
import { type Clients, startClients } from "./clients.ts";
import { type Moment, moments, pickMoment, PROBATION_MS, READY_MS } from "./moments.ts";
import { createRandom, type Random } from "./random.ts";
import { HEADERS, table, writeTables } from "./table.ts";
import { isExcused } from "./verdict.ts";

/** What came of a day. */
export interface Day {
  readonly reloads: Chronicle["reloads"];
  /** How often each moment came. */
  readonly moments: ReadonlyMap<string, number>;
  readonly sent: ReadonlyMap<string, number>;
  /** What had no answer because a process was killed, or had no descriptors. */
  readonly excused: number;
  /** A line for each of these. */
  readonly lost: readonly string[];
  readonly doubled: readonly string[];
  readonly leaked: readonly string[];
  /** What a moment should have come to, and did not. */
  readonly broken: readonly string[];
}

const OPTIONS = {
  probation: PROBATION_MS,
  readyTimeout: READY_MS,
  drainTimeout: 10_000,
  idleGrace: PROBATION_MS,
};
/** How many lines of each kind of defect are printed. */
const SHOWN = 30;
/** The longest pause between two moments, in milliseconds. */
const PAUSE_MS = 4_000;

/** The program, which is started again when all of its processes are gone. */
interface Place {
  readonly t: TestScope;
  readonly runtime: Runtime;
  readonly folder: string;
  /** Where its status files are: a disk that can be filled, where that can be had. */
  readonly disk: string;
  readonly handled: string;
  readonly ports: { http: number; tcp: number; udp: number };
  program: Program;
  current: Report;
}

async function createPlace(t: TestScope, runtime: Runtime, chronicle: Chronicle): Promise<Place> {
  const folder = temporaryFolder(t);
  const canMount = process.getuid?.() === 0;
  const disk = canMount ? smallDisk(t) : temporaryFolder(t);
  mkdirSync(join(folder, "cwd"));
  writeFileSync(join(folder, "app.ts"), `import ${JSON.stringify(fixture("day.ts"))};\n`);
  const handled = join(folder, "handled");
  writeFileSync(handled, "");
  const ports = { http: await freePort(), tcp: await freePort(), udp: await freePort() };
  const place = { t, runtime, folder, disk, handled, ports } as Place;
  await start(place, chronicle);
  return place;
}

async function start(place: Place, chronicle: Chronicle): Promise<void> {
  const { t, runtime, folder, disk, handled, ports } = place;
  place.program = startProgram(t, runtime, {
    script: join(folder, "app.ts"),
    cwd: join(folder, "cwd"),
    env: {
      XDG_RUNTIME_DIR: disk,
      HANDLED: handled,
      PORTS: JSON.stringify([ports.http, ports.tcp, ports.udp]),
      OPTIONS: JSON.stringify({ ...OPTIONS, pidFile: join(folder, "pid") }),
    },
  });
  chronicle.follow(place.program);
  place.current = await place.program.report("serving");
}

/**
 * The program as a moment sees it: what was reported before is not there, and what it does to
 * processes is noted.
 */
function viewOf(program: Program, chronicle: Chronicle): Program {
  const [reports, lines] = [program.reports.length, program.lines.length];
  return {
    ...program,
    get reports() {
      return program.reports.slice(reports);
    },
    get lines() {
      return program.lines.slice(lines);
    },
    report: (type, match, from = 0) => program.report(type, match, reports + from),
    line: (match) =>
      until(String(match), () => program.lines.slice(lines).find((line) => match.test(line))),
    signal(to, signal = "SIGHUP") {
      const pid = typeof to === "number" ? to : to.pid;
      chronicle.signal(pid, signal);
      program.signal(pid, signal);
    },
  };
}

/** Lets a moment happen, and waits until one process is in charge. */
async function live(
  place: Place,
  moment: Moment,
  chronicle: Chronicle,
  random: Random,
): Promise<void> {
  const { t, runtime, program, current, ports, folder, disk } = place;
  const kind = runtime.kind === "node" ? "http" as const : "adopted" as const;
  const view = viewOf(program, chronicle);
  const scene: Scene = {
    t,
    subject: { name: runtime.name, runtime, kind, on: "tcp" },
    program: view,
    first: current,
    target: { port: ports.http },
    loads: [],
    folder,
  };
  if (moment.isShortage) chronicle.shortage(false);
  try {
    await moment.happen(scene, random);
  } finally {
    if (moment.isShortage) chronicle.shortage(true);
    rmSync(join(disk, "filler"), { force: true });
    program.behave("run");
  }
  if (program.pids().every((pid) => !isAlive(pid))) await start(place, chronicle);
  else place.current = await settled(program);
}

/** Reloads once, without a fault, and returns what the process holds when its clients are gone. */
async function holdings(place: Place, chronicle: Chronicle, random: Random): Promise<Resources> {
  await live(place, moments[0] as Moment, chronicle, random);
  let last = "";
  let since = performance.now();
  return await until("a steady state", () => {
    const now = resourcesOf(place.current.pid);
    if (JSON.stringify(now) !== last) [last, since] = [JSON.stringify(now), performance.now()];
    return performance.now() - since > 2_000 ? now : undefined;
  });
}

/** What is left besides the process in charge: processes, and files. */
function leftOf({ program, current, folder, disk }: Place): string[] {
  const processes = [...program.pids(), ...childrenOf(current.pid)].filter((pid) =>
    pid !== current.pid
  );
  const files = readdirSync(disk, { recursive: true }).map(String)
    .filter((name) => name !== "reload-self" && name !== `reload-self/${current.pid}.json`);
  const own = ["app.ts", "app.ts.kept", "cwd", "handled", "pid"];
  files.push(...readdirSync(folder).filter((name) => !own.includes(name)));
  const pid = existsSync(join(folder, "pid"))
    ? readFileSync(join(folder, "pid"), "utf8").trim()
    : "none";
  return [
    ...[...new Set(processes)].map((pid) => `a process: ${pid}`),
    ...files.map((name) => `a file: ${name}`),
    ...(pid === String(current.pid)
      ? []
      : [`the pid file names ${pid}, and ${current.pid} is in charge`]),
  ];
}

/** Looks until there is nothing to be found, or for some seconds. */
async function found(look: () => string[]): Promise<string[]> {
  const end = performance.now() + 5_000;
  for (;; await delay(100)) {
    const now = look();
    if (now.length === 0 || performance.now() > end) return now;
  }
}

/** Lives a day. `log` gets a line for each moment. */
export async function liveDay(
  t: TestScope,
  runtime: Runtime,
  { minutes, seed, only }: { minutes: number; seed: number; only?: readonly Moment[] },
  log: (line: string) => void,
): Promise<Day> {
  const random = createRandom(seed);
  const begun = performance.now();
  const at = (time: number) => `${((time - begun) / 1000).toFixed(2)} s`;
  const chronicle = createChronicle((line) => log(`${at(performance.now())}    ${line}`));
  cleanUp(t, () => chronicle.stop());
  const place = await createPlace(t, runtime, chronicle);
  const before = await holdings(place, chronicle, random);
  const started = performance.now();
  const clients = startClients(place.ports, seed);
  const counts = new Map<string, number>();
  const broken: string[] = [];
  const steps: { name: string; from: number }[] = [];
  try {
    while (performance.now() - started < minutes * 60_000) {
      await delay(random.between(0, PAUSE_MS));
      const moment = pickMoment(random, only);
      counts.set(moment.name, (counts.get(moment.name) ?? 0) + 1);
      steps.push({ name: moment.name, from: performance.now() });
      log(`${at(performance.now())}  ${moment.name}, process ${place.current.pid}`);
      try {
        await live(place, moment, chronicle, random);
      } catch (error) {
        broken.push(`${at(steps.at(-1)?.from ?? 0)}: ${moment.name}: ${(error as Error).message}`);
        break; // What state it is in is not known.
      }
    }
  } finally {
    await clients.stop();
  }
  const leaked = broken.length > 0 ? [] : await leftBehind(place, before, chronicle, random);
  chronicle.stop();
  return {
    reloads: chronicle.reloads,
    moments: counts,
    sent: clients.tally.sent,
    broken,
    leaked,
    ...judge(),
  };

  function judge() {
    const { failures, doubled } = (clients as Clients).tally;
    const bad = failures.filter((failure) => !isExcused(failure, chronicle));
    const lost = bad.map(({ client, error, begun, last, noticed }) => {
      const step = steps.findLast(({ from }) => from <= noticed)?.name;
      const process = last === undefined
        ? "a new connection"
        : `process ${last.pid}, which last answered at ${at(last.at)}`;
      return `${at(noticed)}: ${client}, ${process}, since ${
        at(begun)
      }: ${error} (during: ${step})`;
    });
    const ids = readFileSync(place.handled, "utf8").split("\n").filter((id) => id !== "");
    const seen = new Set<string>();
    const again = ids.filter((id) => seen.size === seen.add(id).size).map((id) =>
      `${id} was handled twice`
    );
    return { excused: failures.length - bad.length, lost, doubled: [...doubled, ...again] };
  }
}

async function leftBehind(
  place: Place,
  before: Resources,
  chronicle: Chronicle,
  random: Random,
): Promise<string[]> {
  const after = await holdings(place, chronicle, random);
  const { pid } = place.current;
  return [
    ...leaksBetween(before, after).length === 0
      ? []
      : await found(() => leaksBetween(before, resourcesOf(pid))),
    ...await found(() => leftOf(place)),
  ];
}

/** Lives a day on each runtime, and prints it, and the table for docs/guarantees.md. */
export async function day({ asked, print, isWanted }: Bench): Promise<void> {
  const minutes = asked.number("minutes", 30);
  const seed = asked.number("seed", Math.floor(Math.random() * 1_000_000));
  const only = moments.filter(({ name }) => isWanted(name));
  const rows: string[][] = [];
  for (const runtime of runtimesOf(asked, true)) {
    await scoped(async (t) => {
      const log: string[] = [];
      const { reloads, moments: counts, sent, excused, lost, doubled, leaked, broken } =
        await liveDay(
          t,
          runtime,
          { minutes, seed, only },
          (line) => void log.push(line),
        );
      const all = [...sent.values()].reduce((sum, count) => sum + count, 0);
      const faults = [...counts].reduce(
        (sum, [name, count]) => name === "a reload" ? sum : sum + count,
        0,
      );
      const bad = { lost, doubled, leaked, broken };
      print(
        Object.values(bad).every(({ length }) => length === 0),
        runtime.name.padEnd(8),
        `seed ${seed}, ${minutes} minutes: ${reloads.done} reloads done, ${reloads.failed} failed, ${faults} faults`,
        `${all} sent (${[...sent].map(([kind, count]) => `${count} ${kind}`).join(", ")})`,
        `${lost.length} lost, ${doubled.length} doubled, ${leaked.length} leaked, ${broken.length} broken`,
        `${excused} with a killed process`,
      );
      for (const [what, lines] of Object.entries(bad)) {
        for (const line of lines.slice(0, SHOWN)) console.log(`  ${what}: ${line}`);
      }
      if (lost.length + doubled.length + broken.length + leaked.length > 0) {
        console.log(`the moments:\n${log.map((line) => `  ${line}`).join("\n")}`);
      }
      const columns = [
        runtime.name,
        minutes,
        reloads.done,
        faults,
        all,
        lost.length,
        doubled.length,
        leaked.length,
        excused,
      ];
      rows.push(columns.map(String));
    });
  }
  console.log(`\n${table(HEADERS.en, rows)}`);
  const folder = asked.text("output");
  if (folder !== undefined) writeTables(folder, rows);
}
