/**
 * A loop that works every second until it is told to finish. Runs unchanged on Deno, Bun and Node:
 *
 *     node examples/loop.ts
 *     bun examples/loop.ts
 *     deno run --allow-env --allow-run=deno examples/loop.ts
 *
 * Then, in another terminal: `kill -HUP <pid>` replaces the process, `kill <pid>` ends it.
 */
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { listen } from "../mod.ts";

const token = listen();
const me = `pid ${process.pid}, generation ${token.generation}`;

for (let round = 1; !token.isCancelled; round++) {
  console.log(`${me}: round ${round}`);
  // Wakes up at once when it is cancelled.
  await delay(1000, undefined, { signal: token.signal }).catch(() => {});
}

const why = await token.cancelled();
console.log(why.kind === "reload" ? `${me}: replaced by pid ${why.pid}` : `${me}: shut down`);
