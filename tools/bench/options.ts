/** The command line of the benchmarks: `npm run bench -- PART ... --option value`. */
import { parseArgs } from "node:util";
import { type Runtime, runtimes as all } from "../../tests/support/runtimes.ts";

/** All options, with what they are for. */
const OPTIONS = {
  runtime: "names of runtimes, with commas: node22, node24, node26, deno, bun",
  rows: "only rows whose names contain this text",
  reloads: "how many reloads",
  rounds: "how many starts or measurements of each",
  connections: "how many connections; for scale several, with commas",
  sockets: "for scale: how many listening sockets, with commas",
  instances: "for scale: how many instances, with commas",
  clients: "how many clients",
  latency: "milliseconds that the wire takes in each direction",
  minutes: "for day: how long",
  seed: "for day: what repeats a run",
  output:
    "for compare, scale, day: the folder of the pages that are written: docs by default, for day none",
} as const;

export type Option = keyof typeof OPTIONS;

/** What was asked for. */
export interface Asked {
  /** The benchmarks. */
  readonly parts: readonly string[];
  text(option: Option): string | undefined;
  number(option: Option, fallback: number): number;
  numbers(option: Option, fallback: readonly number[]): readonly number[];
}

/** What a benchmark is run with. */
export interface Bench {
  readonly asked: Asked;
  /** Whether a row was asked for. */
  isWanted(row: string): boolean;
  /** Prints a row; one that is not ok makes the exit code 1. */
  print(ok: boolean, ...columns: string[]): void;
}

/** Reads a command line. A wrong one is an error that says what there is. */
export function parse(args: readonly string[]): Asked {
  const options = Object.fromEntries(
    Object.keys(OPTIONS).map((name) => [name, { type: "string" as const }]),
  );
  const { values, positionals } = parseArgs({ args: [...args], options, allowPositionals: true });
  const numbersIn = (text: string, option: Option) =>
    text.split(",").map((part) => {
      const number = Number(part);
      if (part !== "" && number >= 0) return number;
      throw new Error(`--${option} takes numbers, not ${JSON.stringify(text)}`);
    });
  const text = (option: Option) => values[option] as string | undefined;
  // All are looked at now: a wrong number is not to be found after an hour.
  const numeric = (Object.keys(OPTIONS) as Option[]).filter((name) =>
    !["runtime", "rows", "output"].includes(name)
  );
  for (const option of numeric) numbersIn(text(option) ?? "0", option);
  return {
    parts: positionals,
    text,
    number: (option, fallback) => Number(text(option) ?? fallback),
    numbers(option, fallback) {
      const given = text(option);
      return given === undefined ? fallback : numbersIn(given, option);
    },
  };
}

/** What there is, an option a line. */
export function optionsText(): string {
  return Object.entries(OPTIONS).map(([name, what]) => `  --${name.padEnd(12)} ${what}`).join("\n");
}

/**
 * The runtimes that were asked for, or all; and of several versions of one kind only the newest,
 * where `isNewest`.
 */
export function runtimesOf(asked: Asked, isNewest = false): readonly Runtime[] {
  const names = asked.text("runtime")?.split(",");
  const unknown = names?.find((name) => !all.some((runtime) => runtime.name === name));
  if (unknown !== undefined) {
    throw new Error(
      `no such runtime: ${unknown}; there are ${all.map(({ name }) => name).join(", ")}`,
    );
  }
  const wanted = all.filter(({ name }) => names?.includes(name) ?? true);
  // The versions come in their order.
  return isNewest && names === undefined
    ? wanted.filter(({ kind }, i) => wanted.findLastIndex((runtime) => runtime.kind === kind) === i)
    : wanted;
}
