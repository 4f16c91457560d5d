/**
 * Ten tasks that are told to finish, and waited for. Each takes a different time to finish, and the
 * first one starts another when it ends, which is waited for too. Runs unchanged on Deno, Bun and
 * Node, as loop.ts does.
 */
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { listen } from "../mod.ts";

const token = listen();
const me = `pid ${process.pid}, generation ${token.generation}`;

async function work(name: string, secondsToFinish: number): Promise<void> {
  while (!token.isCancelled) {
    await delay(100); // Whatever it does: it is not cut short.
  }
  await delay(1000 * secondsToFinish);
  console.log(`${me}: ${name} finished`);
}

token.track(
  work("task 1", 0.1).then(() => {
    token.track(work("task 11", 0.1));
  }),
);
for (let n = 2; n <= 10; n++) token.track(work(`task ${n}`, n / 10), { name: `task ${n}` });
console.log(`${me}: ten tasks are running`);

await token.cancelled();
const { complete, running } = await token.drained({ timeout: 10_000 });
console.log(
  complete ? `${me}: all have finished` : `${me}: gave up waiting for ${running.join(", ")}`,
);
process.exit(complete ? 0 : 1);
