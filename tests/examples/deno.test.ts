/** examples/deno: programs with Deno's standard library. It comes from JSR, and from nowhere else. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { pinned } from "../pinned.mjs";
import { root, run } from "../support/package.ts";
import { freePort } from "../support/port.ts";
import { isAlive } from "../support/proc.ts";
import { pidOnLine, startProgram } from "../support/program.ts";
import { runtimes } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";

const deno = runtimes.find(({ kind }) => kind === "deno");
const reachesJsr = () =>
  fetch("https://jsr.io/@std/async/meta.json", { signal: AbortSignal.timeout(5_000) }).then(({ ok }) => ok, () => false);
const skip = deno === undefined ? "not asked for" : !await reachesJsr() && "jsr.io cannot be reached";

const script = (name: string) => join(root, "examples/deno", name);

test("the types", { skip }, async () => void await run(pinned.deno, ["check", script("ticker.ts"), script("server.ts")]));

test("ticker.ts: its tasks end at a reload, and go on in the new process", { skip }, async (t) => {
  const program = startProgram(t, deno!, { script: script("ticker.ts"), args: ["--every", "50"] });
  const pid = await pidOnLine(program, /generation 0$/);
  program.signal(pid);
  const next = await pidOnLine(program, /generation 1$/);
  await program.line(new RegExp(`^pid ${pid}: done, 0 tasks failed$`));
  program.signal(next, "SIGTERM");
  await program.line(new RegExp(`^pid ${next}: done, 0 tasks failed$`));
  await until("all to be gone", () => program.pids().length === 0);
});

test("server.ts: a deadline, and a reload", { skip }, async (t) => {
  const port = await freePort();
  const program = startProgram(t, deno!, { script: script("server.ts"), args: ["--port", String(port), "--timeout", "50"] });
  const get = async (path: string) => (await fetch(`http://127.0.0.1:${port}${path}`)).text();
  const first = await until("an answer", () => get("/").catch(() => undefined));
  assert.match(first, /^pid \d+, generation 0\n$/);
  assert.equal(await get("/never"), "too late\n");
  const pid = Number(/\d+/.exec(first)?.[0]);
  program.signal(pid);
  await until("the old process to be gone", () => !isAlive(pid));
  assert.match(await get("/"), /^pid \d+, generation 1\n$/);
});
