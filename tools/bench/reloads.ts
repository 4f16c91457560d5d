/**
 * Many reloads of each native server under load: what fails, and what is left behind in the
 * process.
 */
import { certificate } from "../../tests/fixtures/certificate.ts";
import { failureCount, type Load, startLoad, type Tally } from "../../tests/load/load.ts";
import { type Server, startServer } from "../../tests/load/rows.ts";
import type { TestScope } from "../../tests/support/clean_up.ts";
import { isAlive } from "../../tests/support/proc.ts";
import type { Report } from "../../tests/support/program.ts";
import { leaksBetween, type Resources, resourcesOf } from "../../tests/support/resources.ts";
import type { Runtime } from "../../tests/support/runtimes.ts";
import { until } from "../../tests/support/wait.ts";
import { type Bench, runtimesOf } from "./options.ts";
import { scoped } from "./scoped.ts";

/** Clients of each kind: on new connections, and on kept ones. */
const CLIENTS = 4;
const PROBATION_MS = 300;

/** Where a server listens. */
export const PLACES = ["TCP", "TLS", "unix"] as const;
export type Place = (typeof PLACES)[number];

/** What came of the reloads of one server. */
export interface Reloads {
  readonly requests: number;
  readonly failed: number;
  /** The failures, by kind. */
  readonly failures: string;
  /** What the process has more after all reloads than after the first one. */
  readonly leaks: readonly string[];
  /** After all. */
  readonly resources: Resources;
}

/**
 * Reloads a server so many times. The load pauses when the process is looked at, so that only its
 * own descriptors are there.
 */
export async function manyReloads(
  t: TestScope,
  runtime: Runtime,
  place: Place,
  reloads: number,
): Promise<Reloads> {
  const options = { probation: PROBATION_MS, idleGrace: PROBATION_MS };
  const tls = place === "TLS" ? certificate : undefined;
  const server = await startServer(t, runtime, { kind: "adopted", tls, options }, {
    unix: place === "unix",
  });
  const tallies: Tally[] = [];
  let current = await reloadUnderLoad(server, server.first, 1, tallies);
  const before = await steadyResources(current.pid);
  current = await reloadUnderLoad(server, current, reloads - 1, tallies);
  // What the clients had open is closed a moment after them.
  let leaks: string[] = [];
  const isEven = () => (leaks = leaksBetween(before, resourcesOf(current.pid))).length === 0;
  await until("nothing more than after one reload", isEven).catch(() => {});
  return {
    requests: tallies.reduce((sum, { ok }) => sum + ok, 0),
    failed: tallies.reduce((sum, tally) => sum + failureCount(tally), 0),
    failures: tallies.flatMap(({ failures }) =>
      [...failures].map(([kind, count]) => `${count} ${kind}`)
    ).join(", "),
    leaks,
    resources: resourcesOf(current.pid),
  };
}

/** Reloads under load, and returns the process that is in charge then. */
async function reloadUnderLoad(
  { program, target }: Server,
  first: Report,
  reloads: number,
  tallies: Tally[],
): Promise<Report> {
  const loads: Load[] = [startLoad("new", target, CLIENTS), startLoad("keep", target, CLIENTS)];
  let current = first;
  try {
    for (let i = 0; i < reloads; i++) {
      const old = current;
      const generation = old.generation + 1;
      program.signal(old);
      current = await program.report("in-charge", { generation });
      await until(
        `generation ${generation} to answer`,
        () => loads.every(({ tally }) => tally.generations.has(generation)),
      );
      await until("the old process to be gone", () => !isAlive(old.pid));
    }
  } finally {
    tallies.push(...await Promise.all(loads.map((load) => load.stop())));
  }
  return current;
}

/** What a process holds when it has closed what its clients had open: the same for a second. */
async function steadyResources(pid: number): Promise<Resources> {
  let last = "";
  let since = performance.now();
  return await until("a steady state", () => {
    const now = resourcesOf(pid);
    const text = JSON.stringify(now);
    if (text !== last) [last, since] = [text, performance.now()];
    return performance.now() - since > 1_000 ? now : undefined;
  });
}

/** Measures each native server, in each place, and prints a line. */
export async function reloads({ asked, print, isWanted }: Bench): Promise<void> {
  const count = asked.number("reloads", 100);
  if (count < 2) {
    throw new Error(
      "--reloads must be at least 2: what one leaves is compared with what all leave",
    );
  }
  for (const runtime of runtimesOf(asked).filter(({ servers }) => servers.includes("adopted"))) {
    for (const place of PLACES) {
      const name = `${runtime.kind === "deno" ? "Deno.serve" : "Bun.serve"}, ${place}`;
      if (!isWanted(name)) continue;
      await scoped(async (t) => {
        const { requests, failed, failures, leaks, resources } = await manyReloads(
          t,
          runtime,
          place,
          count,
        );
        const { descriptors, registrations } = resources;
        print(
          failed === 0 && leaks.length === 0,
          name.padEnd(18),
          `${count} reloads, ${failed} of ${requests} requests failed${
            failures && ` (${failures})`
          }`,
          `${descriptors.length} descriptors, ${registrations} registrations: ` +
            (leaks.length === 0 ? "none more than after one reload" : leaks.join(", ")),
        );
      });
    }
  }
}
