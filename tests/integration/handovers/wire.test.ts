/**
 * A wire has a latency, and clients think. What closes an idle connection loses the request that is
 * on the wire at that moment; what moves it loses none. `npm run bench -- wire` does the same for
 * every kind of server, with more clients.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { describeThinking, failed } from "../../load/thinking.ts";
import { runWire, wireRowsOf } from "../../load/wire.ts";
import { runtimes } from "../../support/runtimes.ts";

const CLIENTS = 40;

const rows = wireRowsOf(runtimes.filter(({ name }) => name !== "node22" && name !== "node24"));

// All at once: they wait for their clients most of the time.
describe("idle connections behind a wire", { concurrency: true }, () => {
  for (const row of rows.filter(({ setup }) => setup.tls === undefined)) {
    test(`${row.name}: two reloads lose no request, and close no connection`, async (t) => {
      const tally = await runWire(t, row, { clients: CLIENTS, reloads: 2 });
      t.diagnostic(describeThinking(tally));
      assert.equal(failed(tally.failures), 0, describeThinking(tally));
      assert.equal(tally.connections, CLIENTS, describeThinking(tally));
      assert.ok(tally.requests >= 3 * CLIENTS, describeThinking(tally));
    });
  }
});

// One after the other: they are drained, and the handshakes of all would keep clients from asking
// within the idle grace, which has its default.
describe("connections with TLS behind a wire", () => {
  // That of node:https on Deno and Bun is drained by the same code, and is in the benchmark.
  for (
    const row of rows.filter(({ setup: { kind, tls }, runtime }) =>
      tls && (kind === "adopted" || runtime.kind === "node")
    )
  ) {
    test(`${row.name}: a reload loses no request`, async (t) => {
      const tally = await runWire(t, row, { clients: CLIENTS, reloads: 1 });
      t.diagnostic(describeThinking(tally));
      assert.equal(failed(tally.failures), 0, describeThinking(tally));
      assert.ok(tally.requests >= 2 * CLIENTS, describeThinking(tally));
    });
  }
});
