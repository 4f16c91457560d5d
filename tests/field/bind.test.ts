/** What people give to `token.bind()` that is no server: the error says what to write. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { fixture, startProgram } from "../support/program.ts";
import { runtimes } from "../support/runtimes.ts";
import { until } from "../support/wait.ts";

const expected: Record<string, RegExp> = {
  restify: /token\.bind\(app\.server, /,
  express: /not a function; write `token\.bind\(createServer\(app\), /,
  koa: /token\.bind\(createServer\(app\.callback\(\)\), /,
  fastify: /token\.bind\(app\.server, /,
  hono: /`serve\(app\)`, .*`token\.fetch\(app\.fetch\)`/,
  nest: /token\.bind\(app\.getHttpServer\(\), /,
  ws: /new WebSocketServer\(\{ server \}\)/,
  nothing: /not undefined; /,
};

for (const runtime of runtimes) {
  test(`${runtime.name}: bind names what to write instead of what is no server, and takes a port as a string`, async (t) => {
    const program = startProgram(t, runtime, { script: fixture("wrong_servers.ts") });
    const { messages, address } = await program.report("results");
    const { "no second argument": upgrade, ...bound } = messages;
    assert.match(
      upgrade,
      runtime.kind === "node"
        ? /upgrade\(\) is for Bun.serve and Deno.serve/
        : /^TypeError: liveWebSockets: upgrade\(\) needs the second argument/,
    );
    assert.deepEqual(Object.keys(bound), Object.keys(expected));
    for (const [name, message] of Object.entries(expected)) {
      assert.match(messages[name], /^TypeError: bind: the server must be one of node:net/, name);
      assert.match(messages[name], message, name);
    }
    assert.ok(address.port > 0);
    await until("it to end", () => program.process.exitCode !== null);
    assert.equal(program.process.exitCode, 0);
  });
}
