/**
 * Tests of server.ts, without another process.
 *
 *     deno test --allow-net --allow-env --allow-ffi examples/deno
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { createTestToken } from "../../testing.ts";
import { start } from "./server.ts";

Deno.test("each answer has a deadline", async () => {
  const { token, shutdown } = createTestToken({ generation: 4 });
  const port = start(token, 0, 50);
  const late = await fetch(`http://127.0.0.1:${port}/never`);
  assertEquals([late.status, await late.text()], [504, "too late\n"]);
  const answer = await fetch(`http://127.0.0.1:${port}/`);
  assertEquals(await answer.text(), `pid ${Deno.pid}, generation 4\n`);
  await shutdown();
  assert((await token.drained()).complete);
});

Deno.test("after a reload it does not listen any more", async () => {
  const { token, reload } = createTestToken();
  const port = start(token, 0, 5_000);
  const begun = fetch(`http://127.0.0.1:${port}/`);
  assertEquals(await (await begun).text(), `pid ${Deno.pid}, generation 0\n`);
  await reload();
  assertEquals(await token.cancelled(), { kind: "reload", pid: Deno.pid, generation: 1 });
  await token.drained();
  await assertRejects(() => fetch(`http://127.0.0.1:${port}/`), TypeError);
});
