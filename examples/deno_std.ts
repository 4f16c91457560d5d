/**
 * The companions from Deno's standard library take the token's signal. For Deno:
 *
 *     deno run --allow-env --allow-run=deno examples/deno_std.ts --every 500
 */
import { abortable, delay } from "@std/async";
import { parseArgs } from "@std/cli";
import { listen } from "../mod.ts";

const { every } = parseArgs(Deno.args, { string: ["every"], default: { every: "1000" } });
const token = listen();

token.track(async function ticker(signal) {
  for (;;) {
    console.log(`pid ${Deno.pid}, generation ${token.generation}`);
    await delay(Number(every), { signal }); // Rejects when it is cancelled, which is no failure to drained().
  }
});
token.track(abortable(new Promise(() => {}), token.signal), { name: "something that never ends" });

const { failed } = await token.drained();
console.log(`pid ${Deno.pid}: done, ${failed.length} tasks failed`);
