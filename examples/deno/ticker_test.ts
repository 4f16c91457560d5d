/**
 * Tests of ticker.ts, without another process.
 *
 *     deno test --allow-net --allow-env --allow-ffi examples/deno
 */
import { assert, assertEquals } from "@std/assert";
import { deadline } from "@std/async/deadline";
import { createTestToken } from "../../testing.ts";
import { start } from "./ticker.ts";

Deno.test("it ticks until it is reloaded, and its tasks have not failed", async () => {
  const { token, reload } = createTestToken();
  const ticks = Promise.withResolvers<void>();
  let count = 0;
  start(token, 1, () => ++count === 3 && ticks.resolve());
  await deadline(ticks.promise, 5_000);
  await reload();
  const last = count;
  assertEquals(await token.drained(), { complete: true, running: [], failed: [] });
  assert(count <= last + 1);
});

Deno.test("an error in a tick is a failure of its task", async () => {
  const { token } = createTestToken({ logger: { info() {}, warn() {}, error() {} } });
  const error = new Error("no tick");
  start(token, 1, () => {
    throw error;
  });
  token.cancel();
  assertEquals((await token.drained()).failed, [{ name: "ticker", error }]);
});
