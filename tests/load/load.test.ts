/**
 * Not one request lost: every kind of server is reloaded under load. `npm run bench` does it
 * longer.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { runtimes } from "../support/runtimes.ts";
import { describeTally, failureCount } from "./load.ts";
import { rowsOf, runRow } from "./rows.ts";

const RELOADS = 10;

// The other versions of Node differ in nothing that matters here, and are reloaded in the other
// tests.
for (const row of rowsOf(runtimes.filter(({ name }) => name !== "node22" && name !== "node24"))) {
  for (const crash of [false, true]) {
    test(`${row.name}: ${RELOADS} reloads under load${crash ? ", every second one a crash" : ""}, and no failure`, async (t) => {
      for (const [kind, tally] of await runRow(t, row, { reloads: RELOADS, crash })) {
        t.diagnostic(`${kind}: ${describeTally(tally)}`);
        assert.equal(failureCount(tally), 0, `${kind}: ${describeTally(tally)}`);
        assert.ok(tally.ok > RELOADS, "there was a load");
      }
    });
  }
}
