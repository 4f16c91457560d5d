/** Sessions of HTTP/2 on which something is always going on, as proxies have them. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { type ClientHttp2Session, connect, constants } from "node:http2";
import { setTimeout as delay } from "node:timers/promises";
import { test } from "node:test";
import { pathOf, pattern } from "../load/pattern.ts";
import { startServer } from "../load/rows.ts";
import { cleanUp, type TestScope } from "../support/clean_up.ts";
import { isAlive } from "../support/proc.ts";
import { fixture, startProgram } from "../support/program.ts";
import { oneOfEachKind, runtimes } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";

function openSession(t: TestScope, port: number): ClientHttp2Session {
  const session = connect(`http://127.0.0.1:${port}`);
  cleanUp(t, () => session.destroy());
  return session.on("error", () => {});
}

/**
 * Asks again and again, by six streams that take turns, until the function that is returned is
 * called. It resolves with all answers: a status and a body, or an error of the stream. A stream that
 * a GOAWAY refuses was not begun, and is none of them (RFC 9113, section 8.7).
 */
function keepBusy(
  session: ClientHttp2Session,
  path: string,
  stagger: number,
): () => Promise<string[]> {
  const answers: string[] = [];
  let isAsking = true;
  async function askAgain(): Promise<void> {
    while (isAsking && !session.closed) {
      const stream = session.request({ ":path": path });
      let [status, body] = ["none", ""];
      stream.on("response", (headers) => status = String(headers[":status"]));
      stream.on("error", () => {}).setEncoding("latin1").on("data", (data) => body += data);
      await new Promise((resolve) => stream.once("close", resolve));
      if (stream.rstCode === constants.NGHTTP2_REFUSED_STREAM) return;
      answers.push(stream.rstCode === 0 ? `${status} ${body}` : `reset ${stream.rstCode}`);
    }
  }
  const all = Array.from({ length: 6 }, (_, i) => delay(stagger * i).then(askAgain));
  return async () => {
    isAsking = false;
    await Promise.all(all);
    return answers;
  };
}

for (const runtime of runtimes) {
  test(`${runtime.name}: what goes on in a session of a bound server ends after its GOAWAY`, async (t) => {
    const { program, first, target } = await startServer(t, runtime, {
      kind: "http2",
      options: { probation: 300, idleGrace: 300 },
    });
    const session = openSession(t, target.port as number);
    const told = once(session, "goaway");
    const asked = { seed: 7, size: 100, pieces: 6, delay: 100 };
    const stop = keepBusy(session, pathOf(asked), 100);
    program.signal(first);
    await told;
    const answers = await stop();
    assert.ok(answers.length >= 6);
    assert.deepEqual([...new Set(answers)], [`200 ${pattern(asked.seed, asked.size)}`]);
    await until("the old process to be gone", () => !isAlive(first.pid));
  });
}

for (const runtime of oneOfEachKind.filter(({ kind }) => kind === "deno")) {
  test(`${runtime.name}: a session of an adopted server does not move, whatever is known of it`, async (t) => {
    const program = startProgram(t, runtime, {
      script: fixture("adopted.ts"),
      env: { OPTIONS: JSON.stringify({ probation: 300, idleGrace: 2_000 }) },
    });
    const { pid, ports: [port] } = await program.report("serving");
    async function ask(session: ClientHttp2Session): Promise<string> {
      const stream = session.request({ ":path": "/" });
      const answered = once(stream, "response");
      stream.resume();
      const [headers] = await answered;
      await once(stream, "close");
      return String(headers["x-generation"]);
    }
    // One request in so many is looked at.
    for (let i = 0; i < 65; i++) await (await fetch(`http://127.0.0.1:${port}`)).text();
    const [unseen, seen, unused] = [1, 2, 3].map(() => openSession(t, port)) as [
      ClientHttp2Session,
      ClientHttp2Session,
      ClientHttp2Session,
    ];
    await once(unused, "remoteSettings");
    assert.equal(await ask(unseen), "0");
    for (let i = 0; i < 40; i++) await ask(seen);
    program.signal(pid);
    await program.report("cancel", { pid });
    for (const session of [unseen, seen, unused]) assert.equal(await ask(session), "0");
    await until("the old process to be gone", () => !isAlive(pid));
  });

  test(`${runtime.name}: a session of an adopted server is waited for until its client pauses`, async (t) => {
    const program = startProgram(t, runtime, {
      script: fixture("adopted.ts"),
      env: { OPTIONS: JSON.stringify({ probation: 300, idleGrace: 300 }) },
    });
    const { pid, ports: [port] } = await program.report("serving");
    const session = openSession(t, port);
    await once(session, "connect");
    program.signal(pid);
    await program.report("cancel", { pid });
    await delay(100); // Nothing goes on, so far.
    const stop = keepBusy(session, "/later", 30);
    await delay(6_500); // Longer than requests of a server that is not replaced are waited for.
    const answers = await stop();
    assert.ok(answers.length > 60);
    assert.deepEqual([...new Set(answers)], ["200 "]);
    await until("the old process to be gone", () => !isAlive(pid));
  });
}
