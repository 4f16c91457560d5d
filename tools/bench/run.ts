/**
 * The benchmarks. `npm run bench` compares this project with others and writes docs/benchmark.md and its picture, in eight minutes; ONLY=nginx
 * prints those whose names contain a text, and writes nothing. `npm run bench -- load latency startup auto throughput connections wire parent faults
 * soak` are the others, `npm run bench -- all` is everything, and takes hours. RUNTIMES=deno,bun narrows them down, ROWS=http2 those of the
 * load, the wire and the faults; RELOADS, ROUNDS, SOAK, CONNECTIONS and CLIENTS change how long they are.
 */
import { describeTally, failureCount, startLoad } from "../../tests/load/load.ts";
import { rowsOf, runRow, startServer } from "../../tests/load/rows.ts";
import { pack, unpack } from "../../tests/support/package.ts";
import { startProgram, temporaryFolder } from "../../tests/support/program.ts";
import { commandLineOf, descriptorsOf, isAlive, memoryOf } from "../../tests/support/proc.ts";
import { cli } from "../../tests/support/cli.ts";
import { oneOfEachKind, runtimes } from "../../tests/support/runtimes.ts";
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
import { wire } from "./wire.ts";

const RELOADS = Number(process.env.RELOADS ?? 100);
const ROUNDS = Number(process.env.ROUNDS ?? 21);
const CONNECTIONS = Number(process.env.CONNECTIONS ?? 10_000);
const SOAK = Number(process.env.SOAK ?? 1000);

let bad = 0;

function print(ok: boolean, ...columns: string[]): void {
  if (!ok) bad++;
  console.log([ok ? "ok " : "BAD", ...columns].join("  "));
}

const parts: Record<string, () => Promise<void>> = {
  async load() {
    for (const row of rowsOf(runtimes).filter(({ name }) => name.includes(process.env.ROWS ?? ""))) {
      for (const crash of [false, true]) {
        await scoped(async (t) => {
          const begun = performance.now();
          const tallies = await runRow(t, row, { reloads: RELOADS, crash, probation: 500 });
          const seconds = (performance.now() - begun) / 1000;
          for (const [kind, tally] of tallies) {
            const rate = `${Math.round(tally.connections / seconds)} new connections/s`;
            const name = `${row.name}, ${kind}${crash ? ", every second one crashes" : ""}`.padEnd(56);
            print(failureCount(tally) === 0, name, describeTally(tally).replace(/, generations.*/, ""), rate);
          }
        });
      }
    }
  },

  async latency() {
    await scoped(async (outer) => {
      const folder = temporaryFolder(outer);
      const project = await unpack(await pack(folder), folder);
      writePrograms(project);
      for (const runtime of runtimes) {
        // The smallest servers there are, for which every millisecond is two or three per cent, and what a program may be like.
        for (const kind of [...runtime.servers, "express" as const]) {
          await scoped(async (t) => {
            const { bare, reload, ratio } = await latency(t, runtime, project, kind, ROUNDS);
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

  async startup() {
    await scoped(async (t) => {
      const folder = temporaryFolder(t);
      const project = await unpack(await pack(folder), folder);
      const size = compressedSize(project, "mod.js");
      print(size <= 20 * 1024, "mod.js".padEnd(16), `${(size / 1024).toFixed(1)} KiB gzipped`);
      for (const runtime of runtimes) {
        const { empty, added, loaded } = await startup(runtime, project, ROUNDS);
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

  async connections() {
    const rows = runtimes.flatMap((runtime) =>
      (["connections", "WebSockets"] as const).flatMap((kind) =>
        runtime.kind === "node" && kind === "WebSockets" ? [] : [[runtime, kind, false], [runtime, kind, true]] as const
      )
    );
    for (const [runtime, kind, isIndependent] of rows) {
      await scoped(async (t) => {
        const move = await moveConnections(t, runtime, kind, CONNECTIONS, isIndependent);
        const { moved, left, perSecond, waits, cut, memory } = move;
        const milliseconds = [waits.median, waits.p99, waits.max].map((wait) => wait.toFixed(0)).join(", ");
        print(
          cut + left === 0,
          `${runtime.name}, ${isIndependent ? "each by itself" : "all together"}`.padEnd(24),
          `${moved} ${kind} moved, ${Math.round(perSecond)} a second, ${left} left, ${cut} cut`,
          `longest wait of a client: median, p99, max ${milliseconds} ms`,
          `memory ${[memory.before, memory.old, memory.next].map((bytes) => (bytes / 2 ** 20).toFixed(0)).join(", ")} MiB ` +
            "(old process before, at most; new process at most)",
        );
      });
    }
  },

  async wire() {
    await wire((row) => row.name.includes(process.env.ROWS ?? ""), print);
  },

  compare: () => compare(process.env.ONLY ?? ""),

  async auto() {
    await scoped(async (t) => {
      const folder = temporaryFolder(t);
      const project = await unpack(await pack(folder), folder);
      for (const runtime of runtimes) {
        for (const kind of runtime.kind === "node" ? ["http"] as const : ["http", runtime.kind] as const) {
          const { bare, added } = await autoStart(runtime, project, kind, ROUNDS);
          const start = `start ${bare.toFixed(1)} ms, and ${added.toFixed(1)} ms with auto`;
          const served = kind === "http" ? "http" : "native";
          const { kept: { bare: without, library, ratio } } = await throughput(
            runtime,
            served,
            ROUNDS,
            preloadOf(runtime, project),
          );
          const rates = `without ${Math.round(without)}/s, with ${Math.round(library)}/s, ratio ${ratio.toFixed(3)}`;
          print(added <= 10 && ratio >= 0.98, `${runtime.name} ${served}`.padEnd(16), start, rates);
        }
      }
    });
  },

  async throughput() {
    for (const runtime of runtimes) {
      for (const kind of runtime.servers) {
        const { kept, fresh } = await throughput(runtime, kind, ROUNDS);
        const name = `${runtime.name} ${kind}`.padEnd(16);
        const expected = runtime.kind === "bun" && kind === "http" ? 0.95 : 0.99;
        // A new connection costs the client more than the server, and the rates of it differ more.
        for (const [{ bare, library, ratio }, what, least] of [[kept, "kept", expected], [fresh, "new ", 0.95]] as const) {
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

  async parent() {
    for (const runtime of oneOfEachKind) {
      await scoped(async (t) => {
        const program = startProgram(t, runtime, { command: [...cli(runtime), "run", "--", "sleep", "1000"] });
        const { pid } = program.process as { pid: number };
        // It is idle when the program runs: the guard's child.
        await until("the program to run", () => program.pids().some((pid) => commandLineOf(pid)[0] === "sleep"));
        const size = memoryOf(pid);
        print(true, runtime.name.padEnd(16), `reload-self run: ${(size / 2 ** 20).toFixed(1)} MiB of its own`);
      });
    }
  },

  async faults() {
    const subjects = subjectsOf(runtimes.filter(({ name }) => name !== "node22" && name !== "node24"));
    bad += await printFaults(subjects.filter(({ name }) => name.includes(process.env.ROWS ?? "")));
  },

  async soak() {
    for (const runtime of runtimes) {
      await scoped(async (t) => {
        const kind = runtime.kind === "node" ? "http" : "native";
        const { program, first, target } = await startServer(t, runtime, { kind, options: { probation: 500 } });
        const loads = [startLoad("new", target, 4), startLoad("keep", target, 4)];
        const memory: number[] = [];
        const descriptors: number[] = [];
        let current = first;
        for (let i = 1; i <= SOAK; i++) {
          const old = current;
          program.signal(old);
          current = await program.report("in-charge", { generation: i });
          await until("the old process to be gone", () => !isAlive(old.pid));
          if (i % Math.max(1, Math.floor(SOAK / 20)) !== 0) continue;
          memory.push(memoryOf(current.pid));
          descriptors.push(descriptorsOf(current.pid).filter((name) => !name.startsWith("socket:")).length);
        }
        const tallies = await Promise.all(loads.map((load) => load.stop()));
        const failures = tallies.reduce((sum, tally) => sum + failureCount(tally), 0);
        const half = memory.length >> 1;
        const mean = (numbers: number[]) => numbers.reduce((sum, number) => sum + number, 0) / numbers.length;
        const growth = mean(memory.slice(half)) / mean(memory.slice(0, half));
        const spread = Math.max(...descriptors) - Math.min(...descriptors);
        print(
          failures === 0 && growth < 1.1 && spread <= 2,
          runtime.name.padEnd(16),
          `${SOAK} reloads, ${failures} failures`,
          tallies.map(describeTally).join("; ").replace(/, generations[^;]*/g, ""),
          `memory ${(mean(memory) / 2 ** 20).toFixed(1)} MiB, second half ${growth.toFixed(2)} of the first`,
          `${Math.min(...descriptors)} to ${Math.max(...descriptors)} descriptors besides sockets`,
        );
      });
    }
  },
};

const [first = "compare", ...others] = process.argv.slice(2);
for (const part of first === "all" ? Object.keys(parts) : [first, ...others]) {
  const run = parts[part];
  if (run === undefined) throw new Error(`no such benchmark: ${part}; there are all, ${Object.keys(parts).join(", ")}`);
  console.log(`\n${part}`);
  await run();
}
process.exitCode = bad > 0 ? 1 : 0;
