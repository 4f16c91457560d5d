/**
 * What may happen in a day: reloads, and the faults of tests/faults/faults.ts at random moments,
 * with some whose moments are random themselves.
 */
import { setTimeout as delay } from "node:timers/promises";
import { faults, type Scene } from "../../../tests/faults/faults.ts";
import { isAlive } from "../../../tests/support/proc.ts";
import { until } from "../../../tests/support/wait.ts";
import type { Random } from "./random.ts";

/** Something that happens. */
export interface Moment {
  readonly name: string;
  /** How often, compared with the others. */
  readonly weight: number;
  /** Whether new connections may be turned away meanwhile, because no file descriptors are left. */
  readonly isShortage?: boolean;
  happen(scene: Scene, random: Random): Promise<unknown>;
}

/** Milliseconds of probation of the program. */
export const PROBATION_MS = 1_000;
/**
 * Milliseconds that a new process has to become ready. A runtime takes seconds to start on a
 * machine with much to do.
 */
export const READY_MS = 10_000;

/** Those that need another program, that end it, or that need a memory limit of the machine. */
const LEFT_OUT = /SIGTERM|shutdown|memory limit|planted link|closed pipes/;

/**
 * What a reload has come to: it is over, it has failed, or the old process is gone and the new one
 * is in charge, or gone as well.
 */
async function outcome({ program, first }: Scene): Promise<void> {
  const isOver = () => {
    const { reports } = program;
    if (
      reports.some(({ type, pid }) =>
        pid === first.pid && (type === "reload-end" || type === "reload-fail")
      )
    ) return true;
    if (isAlive(first.pid)) return false;
    // A new process whose predecessor is gone before it has begun is a first generation.
    return program.pids().every((pid) => !isAlive(pid)) ||
      reports.some(({ type, generation }) =>
        type === "in-charge" || (type === "serving" && generation === 0)
      );
  };
  await until("the reload to come to something", isOver).catch((error) => {
    const seen = program.reports.map(({ type, pid }) => `${pid} ${type}`).join(", ");
    throw new Error(
      `${error.message}; alive: ${program.pids().filter(isAlive)}; reports: ${seen}\n${
        program.lines.join("\n")
      }`,
    );
  });
}

/** A moment of a reload at which something is done to one of its processes. */
function during(
  name: string,
  event: "reload-begin" | "successor-start" | "successor-in-charge",
  most: number,
  act: (scene: Scene, successor: number, random: Random) => unknown,
): Moment {
  return {
    name,
    weight: 3,
    async happen(scene, random) {
      const { program, first } = scene;
      const later = random.between(0, most);
      program.signal(first);
      const { other } = await program.report(event, ({ pid }) => pid === first.pid);
      await delay(later);
      await act(scene, other, random);
      await outcome(scene);
    },
  };
}

/** A signal to a process that may have ended by now. */
function send({ program }: Scene, pid: number, signal: NodeJS.Signals): void {
  if (isAlive(pid)) program.signal(pid, signal);
}

const MOMENTS: readonly Moment[] = [
  {
    name: "a reload",
    weight: 30,
    async happen({ program, first }) {
      program.signal(first);
      await program.report("in-charge", ({ generation }) => generation === first.generation + 1);
      await program.report("reload-end", { pid: first.pid });
    },
  },
  during(
    "new: killed while it starts",
    "successor-start",
    200,
    (scene, next) => send(scene, next, "SIGKILL"),
  ),
  during(
    "old: killed while the new one starts",
    "reload-begin",
    200,
    (scene) => send(scene, scene.first.pid, "SIGKILL"),
  ),
  during(
    "new: killed on probation",
    "successor-in-charge",
    PROBATION_MS - 200,
    (scene, next) => send(scene, next, "SIGKILL"),
  ),
  during(
    "old: killed on probation, or while it drains",
    "successor-in-charge",
    PROBATION_MS + 500,
    (scene) => send(scene, scene.first.pid, "SIGKILL"),
  ),
  during(
    "new: stopped for some time on probation",
    "successor-in-charge",
    PROBATION_MS - 200,
    async (scene, next, random) => {
      send(scene, next, "SIGSTOP");
      await delay(random.between(100, 3_000));
      send(scene, next, "SIGCONT");
    },
  ),
  during("old: stopped for some time", "successor-start", 1_000, async (scene, _, random) => {
    send(scene, scene.first.pid, "SIGSTOP");
    await delay(random.between(100, 3_000));
    send(scene, scene.first.pid, "SIGCONT");
  }),
  during(
    "new: stopped on probation for good",
    "successor-in-charge",
    500,
    (scene, next) => send(scene, next, "SIGSTOP"),
  ),
  {
    name: "the only process is killed",
    weight: 2,
    async happen(scene) {
      send(scene, scene.first.pid, "SIGKILL");
      await until("it to be gone", () => !isAlive(scene.first.pid));
    },
  },
];

/** All of them. */
export const moments: readonly Moment[] = [
  ...MOMENTS,
  ...faults.filter(({ name }) => !LEFT_OUT.test(name)).map(({ name, happen }) => ({
    name,
    weight: 1,
    isShortage: /file descriptor/.test(name),
    happen,
  })),
];

/** One of them, by its weight. */
export function pickMoment(random: Random, from: readonly Moment[] = moments): Moment {
  let left = random.next() * from.reduce((sum, { weight }) => sum + weight, 0);
  return from.find(({ weight }) => (left -= weight) < 0) ?? from[0] as Moment;
}
