/**
 * The benchmarks. `npm run bench` compares this project with others and writes docs/benchmark.md
 * and its picture; `npm run bench -- PART ...` runs others, `all` is everything, and takes hours.
 * `npm run bench -- --help` lists the parts and the options.
 */
import { describeTally, failureCount, startLoad } from "../../tests/load/load.ts";
import { rowsOf, runRow, startServer } from "../../tests/load/rows.ts";
import { pack, unpack } from "../../tests/support/package.ts";
import { startProgram, temporaryFolder } from "../../tests/support/program.ts";
import { commandLineOf, descriptorsOf, isAlive, memoryOf } from "../../tests/support/proc.ts";
import { cli } from "../../tests/support/cli.ts";
import type { Runtime } from "../../tests/support/runtimes.ts";
import { until } from "../../tests/support/wait.ts";
import { subjectsOf } from "../../tests/faults/faults.ts";
import { printFaults } from "./faults.ts";
import { compare } from "./compare/run.ts";
import { moveConnections } from "./connections.ts";
import { latency, writePrograms } from "./latency.ts";
import { scoped } from "./scoped.ts";
import { compressedSize, type Start, startup } from "./startup.ts";
import { autoStart, preloadOf } from "./auto.ts";
import { throughput } from "./throughput.ts";
import { type Asked, type Bench, optionsText, parse, runtimesOf } from "./options.ts";
import { day } from "./day/run.ts";
import { reloads } from "./reloads.ts";
import { scale } from "./scale.ts";
import { wire } from "./wire.ts";

/** The kinds of servers of a runtime that are opened as they are today. */
const currentKinds = (runtime: Runtime) =>
  runtime.kind === "node" ? ["http"] as const : ["http", "adopted"] as const;

const parts: Record<string, (bench: Bench) => Promise<void>> = {
  compare,
  reloads,
  wire,
  scale,
  day,

  async load({ asked, isWanted, print }) {
    const reloads = asked.number("reloads", 100);
    for (const row of rowsOf(runtimesOf(asked)).filter(({ name }) => isWanted(name))) {
      for (const crash of [false, true]) {
        await scoped(async (t) => {
          const begun = performance.now();
          const tallies = await runRow(t, row, { reloads, crash, probation: 500 });
          const seconds = (performance.now() - begun) / 1000;
          for (const [kind, tally] of tallies) {
            const rate = `${Math.round(tally.connections / seconds)} new connections/s`;
            const name = `${row.name}, ${kind}${crash ? ", every second one crashes" : ""}`.padEnd(
              56,
            );
            print(
              failureCount(tally) === 0,
              name,
              describeTally(tally).replace(/, generations.*/, ""),
              rate,
            );
          }
        });
      }
    }
  },

  async latency({ asked, print }) {
    const rounds = asked.number("rounds", 21);
    await scoped(async (outer) => {
      const folder = temporaryFolder(outer);
      const project = await unpack(await pack(folder), folder);
      writePrograms(project);
      for (const runtime of runtimesOf(asked)) {
        // The smallest servers there are, for which every millisecond is two or three per cent, and
        // what a program may be like.
        for (
          const kind of runtime.kind === "node"
            ? ["http", "express"]
            : ["http", "native", "express"]
        ) {
          await scoped(async (t) => {
            const { bare, reload, ratio } = await latency(t, runtime, project, kind, rounds);
            const name = `${runtime.name} ${kind}`.padEnd(16);
            print(
              ratio <= (kind === "express" ? 1.15 : 1.25),
              name,
              `bare start ${bare.toFixed(1)} ms`,
              `reload ${reload.toFixed(1)} ms`,
              `ratio ${ratio.toFixed(2)}`,
            );
          });
        }
      }
    });
  },

  async startup({ asked, print }) {
    const rounds = asked.number("rounds", 21);
    await scoped(async (t) => {
      const folder = temporaryFolder(t);
      const project = await unpack(await pack(folder), folder);
      const size = compressedSize(project, "mod.js");
      print(size <= 20 * 1024, "mod.js".padEnd(16), `${(size / 1024).toFixed(1)} KiB gzipped`);
      for (const runtime of runtimesOf(asked)) {
        const { empty, added, loaded } = await startup(runtime, project, rounds);
        const [milliseconds, mebibytes] = runtime.kind === "deno" ? [1.5, 3] : [5, 4];
        const format = ({ milliseconds, memory }: Start) =>
          `${milliseconds.toFixed(1)} ms, ${(memory / 2 ** 20).toFixed(1)} MiB`;
        print(
          added.milliseconds <= milliseconds && added.memory <= mebibytes * 2 ** 20,
          runtime.name.padEnd(16),
          `empty program ${format(empty)}`,
          `listen() adds ${format(added)}`,
          `all that it loads then ${format(loaded)}`,
        );
      }
    });
  },

  async connections({ asked, print }) {
    const rows = runtimesOf(asked).flatMap((runtime) =>
      (["connections", "WebSockets"] as const).flatMap((kind) =>
        runtime.kind === "node" && kind === "WebSockets"
          ? []
          : [[runtime, kind, false], [runtime, kind, true]] as const
      )
    );
    for (const [runtime, kind, isIndependent] of rows) {
      await scoped(async (t) => {
        const move = await moveConnections(
          t,
          runtime,
          kind,
          asked.number("connections", 10_000),
          isIndependent,
        );
        const { moved, left, perSecond, waits, cut, memory } = move;
        const milliseconds = [waits.median, waits.p99, waits.max].map((wait) => wait.toFixed(0))
          .join(", ");
        print(
          cut + left === 0,
          `${runtime.name}, ${isIndependent ? "each by itself" : "all together"}`.padEnd(24),
          `${moved} ${kind} moved, ${Math.round(perSecond)} a second, ${left} left, ${cut} cut`,
          `longest wait of a client: median, p99, max ${milliseconds} ms`,
          `memory ${
            [memory.before, memory.old, memory.next].map((bytes) => (bytes / 2 ** 20).toFixed(0))
              .join(", ")
          } MiB ` +
            "(old process before, at most; new process at most)",
        );
      });
    }
  },

  async auto({ asked, isWanted, print }) {
    const rounds = asked.number("rounds", 21);
    await scoped(async (t) => {
      const folder = temporaryFolder(t);
      const project = await unpack(await pack(folder), folder);
      for (const runtime of runtimesOf(asked)) {
        for (
          const kind of runtime.kind === "node"
            ? ["http"] as const
            : ["http", runtime.kind] as const
        ) {
          if (!isWanted(`${runtime.name} ${kind}`)) continue;
          const { bare, added } = await autoStart(runtime, project, kind, rounds);
          const start = `start ${bare.toFixed(1)} ms, and ${added.toFixed(1)} ms with auto`;
          const served = kind === "http" ? "http" : "adopted";
          const { kept: { bare: without, library, ratio } } = await throughput(
            runtime,
            served,
            rounds,
            preloadOf(runtime, project),
          );
          const rates = `without ${Math.round(without)}/s, with ${Math.round(library)}/s, ratio ${
            ratio.toFixed(3)
          }`;
          print(added <= 10 && ratio >= 0.98, `${runtime.name} ${served}`.padEnd(16), start, rates);
        }
      }
    });
  },

  async throughput({ asked, isWanted, print }) {
    for (const runtime of runtimesOf(asked)) {
      for (const kind of currentKinds(runtime)) {
        if (!isWanted(`${runtime.name} ${kind}`)) continue;
        const { kept, fresh } = await throughput(runtime, kind, asked.number("rounds", 21));
        const name = `${runtime.name} ${kind}`.padEnd(16);
        const expected = runtime.kind === "bun" && kind === "http" ? 0.95 : 0.99;
        // A new connection costs the client more than the server, and the rates of it differ more.
        for (
          const [{ bare, library, ratio }, what, least] of [[kept, "kept", expected], [
            fresh,
            "new ",
            0.95,
          ]] as const
        ) {
          print(
            ratio >= least,
            name,
            `${what} connections`,
            `without ${Math.round(bare)}/s`,
            `with ${Math.round(library)}/s`,
            `ratio ${ratio.toFixed(3)}`,
          );
        }
      }
    }
  },

  async parent({ asked, print }) {
    for (const runtime of runtimesOf(asked, true)) {
      await scoped(async (t) => {
        const program = startProgram(t, runtime, {
          command: [...cli(runtime), "run", "--", "sleep", "1000"],
        });
        const { pid } = program.process as { pid: number };
        // It is idle when the program runs: the guard's child.
        await until(
          "the program to run",
          () => program.pids().some((pid) => commandLineOf(pid)[0] === "sleep"),
        );
        const size = memoryOf(pid);
        print(
          true,
          runtime.name.padEnd(16),
          `reload-self run: ${(size / 2 ** 20).toFixed(1)} MiB of its own`,
        );
      });
    }
  },

  async faults({ asked, isWanted, print }) {
    const broken = await printFaults(subjectsOf(runtimesOf(asked, true)), isWanted);
    print(broken === 0, `${broken} promises broken`);
  },

  async soak({ asked, print }) {
    const count = asked.number("reloads", 1_000);
    for (const runtime of runtimesOf(asked)) {
      await scoped(async (t) => {
        const kind = runtime.kind === "node" ? "http" : "adopted";
        const { program, first, target } = await startServer(t, runtime, {
          kind,
          options: { probation: 500 },
        });
        const loads = [startLoad("new", target, 4), startLoad("keep", target, 4)];
        const memory: number[] = [];
        const descriptors: number[] = [];
        let current = first;
        for (let i = 1; i <= count; i++) {
          const old = current;
          program.signal(old);
          current = await program.report("in-charge", { generation: i });
          await until("the old process to be gone", () => !isAlive(old.pid));
          if (i % Math.max(1, Math.floor(count / 20)) !== 0) continue;
          memory.push(memoryOf(current.pid));
          descriptors.push(
            descriptorsOf(current.pid).filter((name) => !name.startsWith("socket:")).length,
          );
        }
        const tallies = await Promise.all(loads.map((load) => load.stop()));
        const failures = tallies.reduce((sum, tally) => sum + failureCount(tally), 0);
        const half = memory.length >> 1;
        const mean = (numbers: number[]) =>
          numbers.reduce((sum, number) => sum + number, 0) / numbers.length;
        const growth = mean(memory.slice(half)) / mean(memory.slice(0, half));
        const spread = Math.max(...descriptors) - Math.min(...descriptors);
        print(
          failures === 0 && growth < 1.1 && spread <= 2,
          runtime.name.padEnd(16),
          `${count} reloads, ${failures} failures`,
          tallies.map(describeTally).join("; ").replace(/, generations[^;]*/g, ""),
          `memory ${(mean(memory) / 2 ** 20).toFixed(1)} MiB, second half ${
            growth.toFixed(2)
          } of the first`,
          `${Math.min(...descriptors)} to ${Math.max(...descriptors)} descriptors besides sockets`,
        );
      });
    }
  },
};

/** Runs what was asked for, and returns the exit code. */
async function main(args: readonly string[]): Promise<number> {
  let asked: Asked;
  try {
    if (args.includes("--help")) throw new Error("npm run bench -- PART ... --option value");
    asked = parse(args);
    const unknown = asked.parts.find((part) => part !== "all" && !Object.hasOwn(parts, part));
    if (unknown !== undefined) throw new Error(`no such benchmark: ${unknown}`);
    runtimesOf(asked);
  } catch (error) {
    console.error(
      `${(error as Error).message}\n\nbenchmarks: all, ${
        Object.keys(parts).join(", ")
      }\noptions:\n${optionsText()}`,
    );
    return 2;
  }
  let bad = 0;
  const rows = asked.text("rows") ?? "";
  const bench: Bench = {
    asked,
    isWanted: (row) => row.includes(rows),
    print(ok, ...columns) {
      if (!ok) bad++;
      console.log([ok ? "ok " : "BAD", ...columns].join("  "));
    },
  };
  const wanted = asked.parts.length === 0
    ? ["compare"]
    : asked.parts.includes("all")
    ? Object.keys(parts)
    : asked.parts;
  for (const part of wanted) {
    console.log(`\n${part}`);
    await (parts[part] as (bench: Bench) => Promise<void>)(bench);
  }
  return bad > 0 ? 1 : 0;
}

process.exitCode = await main(process.argv.slice(2));
