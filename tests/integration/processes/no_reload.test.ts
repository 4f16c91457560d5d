/** listen() itself: what it accepts, where it is rawHandle, what it keeps alive. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { detectAdapter } from "../../../adapters/detect.ts";
import { composeProgram } from "../../../src/program/compose.ts";
import { beginProgram } from "../../../src/program/begin.ts";
import { freePort } from "../../support/port.ts";
import { fixture, startProgram } from "../../support/program.ts";
import { runtimes } from "../../support/runtimes.ts";

for (const runtime of runtimes) {
  test(`${runtime.name}: called with wrong options, twice, from a copy of the module, after dispose`, async (t) => {
    const program = startProgram(t, runtime, { script: fixture("listen.ts") });
    const { results } = await program.report("results");
    const [timeout, unknown, foreign, ...rest] = results;
    assert.match(
      timeout,
      /^TypeError: listen: readyTimeout must be a number of milliseconds above 0/,
    );
    assert.match(unknown, /^TypeError: listen: reloadSignals: "SIGFOO" is no signal/);
    assert.match(foreign, /^TypeError: listen: reloadSignals: "SIGBREAK" is no signal/);
    const again =
      "TypeError: listen: it was called before with other options; call it once, or without options to get the token";
    assert.deepEqual(rest, [true, true, again, again, true, true, false, true, "cancelled"]);
    assert.equal(await ended(program.process), 0);
  });

  test(`${runtime.name}: in a worker the token cannot reload, and a server that is bound there is named`, async (t) => {
    const env = { PORT: String(await freePort()) };
    const program = startProgram(t, runtime, { script: fixture("worker.ts"), env });
    for (const kind of runtime.kind === "node" ? ["node worker"] : ["node worker", "web worker"]) {
      const { canReload, refused, drained, generation, warnings } = await program.report(kind);
      assert.equal(warnings.length, 1);
      assert.match(warnings[0], /^a server of a worker thread is not handed over/);
      assert.deepEqual([canReload, refused, drained, generation], [false, "unsupported", true, 0]);
    }
    assert.equal(await ended(program.process), 0);
  });

  test(`${runtime.name}: a first generation that cannot become ready ends as the runtime ends it`, async (t) => {
    const program = startProgram(t, runtime, { behaviour: "reject" });
    assert.equal(await ended(program.process), 1);
    await program.line(/no database/);
  });
}

async function ended(
  child: {
    exitCode: number | null;
    once(event: "exit", listener: (code: number) => void): unknown;
  },
) {
  return child.exitCode ?? await new Promise((resolve) => child.once("exit", resolve));
}

test("where there is neither Deno, Bun nor Node the token is rawHandle", async () => {
  for (
    const globals of [
      {},
      { navigator: { userAgent: "Cloudflare-Workers" }, process: { env: {} } },
      { Deno: { env: {} } },
    ]
  ) {
    const adapter = detectAdapter(globals);
    const { token } = beginProgram(adapter, { reloadSignals: ["SIGHUP"] }, {
      async load() {
        const complete = await adapter.loadRest();
        return (beginning) => composeProgram(complete, beginning);
      },
    });
    assert.equal(token.canReload, false);
    assert.equal(token.generation, 0);
    await assert.rejects(token.reload(), {
      code: "unsupported",
      message: /nothing can be reloaded|cannot be reloaded/,
    });
    token.cancel();
    assert.equal((await token.drained()).complete, true);
    await token[Symbol.asyncDispose]();
  }
});
