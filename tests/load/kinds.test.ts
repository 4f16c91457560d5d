/** Every kind of server that `bind` takes, on every runtime, and the WebSockets of all. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { certificate } from "../fixtures/certificate.ts";
import type { ServerSetup } from "../fixtures/server.ts";
import { runtimes } from "../support/runtimes.ts";
import { type ClientKind, describeTally, failureCount } from "./load.ts";
import { runRow } from "./rows.ts";

const http1 = { new: 2, keep: 4 };
const kinds: [
  kind: ServerSetup["kind"],
  tls: boolean,
  clients: Partial<Record<ClientKind, number>>,
][] = [
  ["https", true, http1],
  ["http2", false, { http2: 2 }],
  ["http2s", true, { http2: 2, keep: 2 }],
  ["express", false, http1],
  ["fastify", false, http1],
  ["koa", false, http1],
  ["ws", false, { websocket: 4, ...http1 }],
  ["native-ws", false, { websocket: 4, ...http1 }],
  ["native", true, http1],
];

for (const runtime of runtimes) {
  for (const [kind, tls, clients] of kinds) {
    if (kind.startsWith("native") && runtime.kind === "node") continue;
    test(`${runtime.name}: ${kind}${tls ? " with TLS" : ""} is reloaded under load without a failure`, async (t) => {
      const setup = { kind, tls: tls ? certificate : undefined };
      for (
        const [client, tally] of await runRow(t, { name: kind, runtime, setup, clients }, {
          reloads: 3,
        })
      ) {
        assert.equal(failureCount(tally), 0, `${client}: ${describeTally(tally)}`);
        assert.ok(tally.ok > 10, `${client}: ${describeTally(tally)}`);
      }
    });
  }
}
