/**
 * Tasks with Deno's standard library: `delay` and `abortable` take the token's signal.
 *
 *     deno run --allow-env --allow-run=deno examples/deno/ticker.ts --every 500
 */
import { abortable } from "@std/async/abortable";
import { delay } from "@std/async/delay";
import { parseArgs } from "@std/cli/parse-args";
import { listen, type Token } from "../../mod.ts";

/** Begins two tasks, which end when the token is cancelled. */
export function start(token: Token, every: number, tick: () => void): void {
  token.track(async function ticker(signal) {
    for (;;) {
      tick();
      // Rejects when it is cancelled, which is no failure to drained().
      await delay(every, { signal });
    }
  });
  token.track(abortable(new Promise(() => {}), token.signal), {
    name: "something that never ends",
  });
}

if (import.meta.main) {
  const { every } = parseArgs(Deno.args, { string: ["every"], default: { every: "1000" } });
  const token = listen();
  start(token, Number(every), () => console.log(`pid ${Deno.pid}, generation ${token.generation}`));
  const { failed } = await token.drained();
  console.log(`pid ${Deno.pid}: done, ${failed.length} tasks failed`);
}
