/**
 * What is reloaded under load, for the tests and the benchmark: each row is a server, and the
 * clients that it has.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { certificate } from "../fixtures/certificate.ts";
import type { ServerSetup } from "../fixtures/server.ts";
import type { TestScope } from "../support/clean_up.ts";
import {
  fixture,
  type Program,
  type Report,
  startProgram,
  temporaryFolder,
} from "../support/program.ts";
import type { Runtime } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";
import { type ClientKind, type Load, startLoad, type Tally, type Target } from "./load.ts";

/** A server under load. */
export interface Row {
  name: string;
  runtime: Runtime;
  setup: ServerSetup;
  unix?: boolean;
  clients: Partial<Record<ClientKind, number>>;
}

/** How a row is run. */
export interface RunOptions {
  reloads: number;
  /** Does every second new process crash? */
  crash?: boolean;
  probation?: number;
}

/** The rows that every reload must survive without a failure. */
export function rowsOf(runtimes: readonly Runtime[]): Row[] {
  const rows: Row[] = [];
  const both = { new: 8, keep: 8 };
  for (const runtime of runtimes) {
    const { name, kind } = runtime;
    rows.push({ name: `${name} node:http`, runtime, setup: { kind: "http" }, clients: both });
    rows.push({
      name: `${name} node:http, unix`,
      runtime,
      setup: { kind: "http" },
      unix: true,
      clients: both,
    });
    rows.push({
      name: `${name} node:http2`,
      runtime,
      setup: { kind: "http2" },
      clients: { http2: 4 },
    });
    if (kind === "node") continue;
    const native = kind === "deno" ? "Deno.serve" : "Bun.serve";
    rows.push({ name: native, runtime, setup: { kind: "adopted" }, clients: both });
    rows.push({
      name: `${native}, unix`,
      runtime,
      setup: { kind: "adopted" },
      unix: true,
      clients: both,
    });
    rows.push({
      name: `${native}, TLS`,
      runtime,
      setup: { kind: "adopted", tls: certificate },
      clients: both,
    });
    // As for version 0.5: a second socket on the same port.
    rows.push({ name: `${native}, reusePort`, runtime, setup: { kind: "native" }, clients: both });
    rows.push({
      name: `${native}, token.path`,
      runtime,
      setup: { kind: "native" },
      unix: true,
      clients: both,
    });
  }
  return rows;
}

/** A server that was started. */
export interface Server {
  readonly program: Program;
  readonly first: Report;
  readonly target: Target;
}

/** How a server of the fixture is started. */
export interface StartServerOptions {
  /** On a unix socket of the test's own. */
  unix?: boolean;
  env?: object;
  runtimeFlags?: readonly string[];
  /** A command that starts the program. */
  wrap?: string[];
  /** Descriptors that it finds from number 3 on. */
  descriptors?: number[];
}

/** Starts a server of the fixture. */
export async function startServer(
  t: TestScope,
  runtime: Runtime,
  setup: ServerSetup,
  { unix = false, env = {}, runtimeFlags = runtime.flags, wrap = [], descriptors }:
    StartServerOptions = {},
): Promise<Server> {
  // What a listening socket of one's own needs.
  const flags = setup.kind === "adopted"
    ? runtimeFlags.filter((flag) => flag !== "--unstable-net")
    : runtimeFlags;
  const path = unix ? join(temporaryFolder(t), "server.sock") : undefined;
  const program = startProgram(t, runtime, {
    command: [...wrap, runtime.executable, ...flags, fixture("server.ts")],
    descriptors,
    env: { SERVER: JSON.stringify({ ...setup, path: path ?? setup.path }), ...env },
  });
  const first = await program.report("serving");
  const target = path !== undefined
    ? { path }
    : { port: first.ports[0] as number, tls: setup.tls !== undefined };
  return { program, first, target };
}

/** Reloads a server under load, and returns what became of every request, by kind of client. */
export async function runRow(
  t: TestScope,
  { runtime, setup, unix, clients }: Row,
  { reloads, crash = false, probation = 300 }: RunOptions,
): Promise<Map<ClientKind, Tally>> {
  const options = { probation, idleGrace: probation, drainTimeout: 20_000, ...setup.options };
  const { program, first, target } = await startServer(t, runtime, { ...setup, options }, { unix });
  const loads = Object.entries(clients).map(([kind, count]) =>
    [kind as ClientKind, startLoad(kind as ClientKind, target, count)] as const
  );
  let current: Report = first;
  try {
    for (let i = 0; i < reloads; i++) {
      const fails = crash && i % 2 === 0;
      program.behave(fails ? (i % 4 === 0 ? "crash" : "crash-late") : "run");
      const before = program.reports.length;
      program.signal(current);
      await program.report(
        fails ? "reload-fail" : "cancel",
        ({ pid }) => pid === current.pid,
        before,
      );
      if (!fails) {
        current = await program.report("in-charge", { generation: current.generation + 1 });
        await answered(loads, current.generation);
      }
    }
  } finally {
    await Promise.all(loads.map(([, load]) => load.stop()));
  }
  const expected = crash ? reloads >> 1 : reloads;
  assert.equal(current.generation, expected, "every reload that could succeed did");
  return new Map(loads.map(([kind, { tally }]) => [kind, tally]));
}

/** Every client has had to do with the new process: there was load in each generation. */
async function answered(
  loads: readonly (readonly [ClientKind, Load])[],
  generation: number,
): Promise<void> {
  for (const [kind, { tally }] of loads) {
    if (kind === "websocket") continue; // They are not told which generation answers.
    await until(
      `a ${kind} client to be answered by generation ${generation}`,
      () => tally.generations.has(generation),
    );
  }
}
