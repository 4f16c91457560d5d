/** examples/server_sent_events.ts, with a real EventSource. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { pinned } from "../pinned.mjs";
import { cleanUp } from "../support/clean_up.ts";
import { freePort } from "../support/port.ts";
import { isAlive } from "../support/proc.ts";
import { pidOnLine, startProgram, temporaryFolder } from "../support/program.ts";
import { oneOfEachKind } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";

const script = join(
  dirname(fileURLToPath(import.meta.url)),
  "../../examples/server_sent_events.ts",
);

for (const runtime of oneOfEachKind) {
  test(`${runtime.name}: an EventSource and a long poll get each event once, in order, across two reloads`, async (t) => {
    const port = await freePort();
    const program = startProgram(t, runtime, {
      script,
      env: { PORT: String(port), EVENTS: join(temporaryFolder(t), "events.txt") },
    });
    const url = `http://127.0.0.1:${port}`;
    const pidOf = (generation: number) =>
      pidOnLine(program, new RegExp(`generation ${generation}: listening`));
    let pid = await pidOf(0);

    const heard: string[] = [];
    const listen =
      `new EventSource("${url}/events").onmessage = ({ data }) => console.log(data); setInterval(() => {}, 1000)`;
    const client = spawn(pinned.node26, [
      "--experimental-eventsource",
      "--no-warnings",
      "-e",
      listen,
    ]);
    cleanUp(t, () => void client.kill("SIGKILL"));
    createInterface(client.stdout).on("line", (line) => heard.push(line));

    const polled: string[] = [];
    let isOver = false;
    const polling = (async () => {
      for (let after = 0; !isOver;) {
        const events = await (await fetch(`${url}/poll?after=${after}`)).json() as {
          id: number;
          text: string;
        }[];
        polled.push(...events.map(({ text }) => text));
        after = events.at(-1)?.id ?? after;
      }
    })();

    const sent: string[] = [];
    async function publish(): Promise<void> {
      const text = `event ${sent.length}`;
      assert.equal((await fetch(url, { method: "POST", body: text })).status, 204);
      sent.push(text);
    }
    for (let generation = 1; generation <= 2; generation++) {
      await publish();
      await until("the event", () => heard.length === sent.length);
      program.signal(pid);
      const next = await pidOf(generation);
      while (isAlive(pid)) await publish();
      pid = next;
    }
    await until(
      "the last event",
      () => heard.length >= sent.length && polled.length >= sent.length,
    );
    isOver = true;
    await publish(); // Ends the poll.
    await polling;
    await until("the last event", () => heard.length >= sent.length);
    assert.deepEqual(heard, sent);
    assert.deepEqual(polled, sent);
  });
}
