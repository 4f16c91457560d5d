/**
 * A process that has no descriptors left for a moment: a reload fails, and cuts nothing. Deno 2.9
 * itself panics then (its crate stacker).
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { openConnection } from "../load/http1.ts";
import { startServer } from "../load/rows.ts";
import { cleanUp } from "../support/clean_up.ts";
import { oneOfEachKind } from "../support/runtimes.ts";

/** Sets from which number on a process gets no descriptors; the hard limit stays. */
function limit(pid: number, descriptors: number): void {
  execFileSync("prlimit", ["--pid", String(pid), `--nofile=${descriptors}:`]);
}

for (const runtime of oneOfEachKind.filter(({ kind }) => kind !== "deno")) {
  for (const kind of runtime.servers) {
    test(`${runtime.name}, ${kind}: the old process has none left for a second, and nothing is cut`, async (t) => {
      const { program, first, target } = await startServer(t, runtime, {
        kind,
        options: { readyTimeout: 2_000 },
      });
      const open = async () => {
        const connection = await openConnection(target);
        cleanUp(t, () => connection.close());
        return connection;
      };
      const answers: Promise<unknown>[] = [];
      /** An answer, and an upload, of three seconds. */
      const begin = async () => {
        const [slow, upload] = [await open(), await open()];
        answers.push(slow.answer().then(({ status }) => assert.equal(status, 200)));
        slow.write("GET /1/1000/30/100 HTTP/1.1\r\nHost: test\r\n\r\n");
        answers.push(upload.answer().then(({ body }) => assert.equal(body, "x".repeat(30))));
        upload.write("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 30\r\n\r\n");
        let sent = 0;
        const sending = setInterval(
          () => sent++ < 30 ? upload.write("x") : clearInterval(sending),
          100,
        );
        cleanUp(t, () => clearInterval(sending));
      };
      await begin();
      program.signal(first);
      await program.report("successor-start");
      limit(first.pid, 3);
      await delay(1_000); // Meanwhile the runtime itself turns new connections away.
      limit(first.pid, 1024);
      // The reload hangs in its commit, and fails a second later: which process has these?
      for (let i = 0; i < 5; i++) await begin();
      await Promise.race([program.report("reload-fail"), program.report("reload-end")]);
      await Promise.all(answers);
    });
  }
}
