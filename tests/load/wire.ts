/**
 * Servers behind a wire with a latency, reloaded while clients hold connections that are idle most
 * of the time. All options have their defaults.
 */
import { certificate } from "../fixtures/certificate.ts";
import type { ServerSetup } from "../fixtures/server.ts";
import type { TestScope } from "../support/clean_up.ts";
import { isAlive } from "../support/proc.ts";
import type { Report } from "../support/program.ts";
import type { Runtime } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";
import { type RelayOptions, startRelay } from "./relay.ts";
import { startServer } from "./rows.ts";
import { startThinking, type ThinkingOptions, type ThinkingTally } from "./thinking.ts";

/** A server behind a wire. */
export interface WireRow {
  readonly name: string;
  readonly runtime: Runtime;
  readonly setup: ServerSetup;
}

/** How a row is run. */
export interface WireOptions {
  readonly clients: number;
  readonly reloads: number;
  /** Default: 10 ms each way. */
  readonly wire?: RelayOptions;
  readonly thinking?: ThinkingOptions;
}

/** Each kind of server, without TLS and with it. */
export function wireRowsOf(runtimes: readonly Runtime[]): WireRow[] {
  return runtimes.flatMap((runtime): WireRow[] => {
    const { name, kind } = runtime;
    const native = kind === "deno" ? "Deno.serve" : "Bun.serve";
    const row = (name: string, setup: ServerSetup) => ({ name, runtime, setup });
    const bound = row(`${name} node:http`, { kind: "http" });
    const secure = row(`${name} node:https, TLS`, { kind: "https", tls: certificate });
    if (kind === "node") return [bound, secure];
    return [
      bound,
      secure,
      row(native, { kind: "adopted" }),
      row(`${native}, TLS`, { kind: "adopted", tls: certificate }),
    ];
  });
}

/**
 * Reloads a server so many times. Before each, and at the end, every client has been answered by
 * the process in charge.
 */
export async function runWire(
  t: TestScope,
  { runtime, setup }: WireRow,
  { clients, reloads, wire, thinking: options }: WireOptions,
): Promise<ThinkingTally> {
  const { program, first, target } = await startServer(t, runtime, setup);
  const relay = await startRelay(t, target, wire);
  const unread = setup.kind === "http" || setup.kind === "https";
  const thinking = startThinking(relay.target, clients, { unread, ...options });
  let current: Report = first;
  try {
    for (let generation = 0;; generation++) {
      await until(
        `all clients to be answered by generation ${generation}`,
        () => thinking.answeredBy(generation) === clients,
      );
      if (generation === reloads) break;
      const old = current;
      program.signal(old);
      current = await program.report("in-charge", { generation: generation + 1 });
      await until("the old process to be gone", () => !isAlive(old.pid));
    }
  } finally {
    await thinking.stop();
  }
  return thinking.tally;
}
