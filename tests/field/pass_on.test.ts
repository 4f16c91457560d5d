/**
 * Requests to reload that come while a reload hands over: they are passed on, and nothing hangs.
 * All options have their defaults.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { openConnection } from "../load/http1.ts";
import { startServer } from "../load/rows.ts";
import { cleanUp } from "../support/clean_up.ts";
import { isAlive } from "../support/proc.ts";
import { oneOfEachKind } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";

for (const runtime of oneOfEachKind) {
  for (const signals of [1, 500]) {
    test(`${runtime.name}: ${signals} more SIGHUP while 400 idle connections move`, async (t) => {
      const { program, first, target } = await startServer(t, runtime, { kind: "http" });
      const connections = await Promise.all(
        Array.from({ length: 400 }, () => openConnection(target)),
      );
      cleanUp(t, () => connections.forEach((connection) => connection.close()));
      const ask = async (connection: (typeof connections)[number]): Promise<number> => {
        const answer = connection.answer();
        connection.write("GET /1/10/1/0 HTTP/1.1\r\nHost: test\r\n\r\n");
        return Number((await answer).headers.get("x-generation"));
      };
      await Promise.all(connections.map(ask));
      program.signal(first);
      await program.report("in-charge", { generation: 1 });
      await until(
        "the first connection to have moved",
        async () => await ask(connections[0] as (typeof connections)[number]) === 1,
      );
      for (let i = 0; i < signals && isAlive(first.pid); i++) {
        program.signal(first);
        await delay(4);
      }
      const { pid } = await program.report("serving", { generation: 2 });
      await program.report("reload-end", { pid, generation: 2 });
      await until("the predecessors to be gone", () => !isAlive(first.pid));
      for (const generation of await Promise.all(connections.map(ask))) assert.ok(generation >= 1);
      assert.deepEqual(program.reports.filter(({ type }) => type === "reload-fail"), []);
    });
  }
}
