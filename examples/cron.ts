/**
 * Something that happens at fixed times, once each: never left out and never done twice across a
 * reload. The old process hands over when it ran last, and stops at that moment.
 */
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { listen } from "../mod.ts";

const EVERY_MS = Number(process.env.EVERY ?? 1_000);
/** The number of the last run, counted from 1970. */
let last = Math.floor(Date.now() / EVERY_MS);
let mayRun = true;

const token = listen({
  logger: console,
  saveState() {
    mayRun = false;
    return last;
  },
  onEvent({ type }) {
    if (type === "reload-fail") mayRun = true;
  },
});
last = (await token.inheritedState as number | undefined) ?? last;

while (!token.isCancelled) {
  const next = last + 1;
  await delay(Math.max(0, next * EVERY_MS - Date.now()), undefined, { signal: token.signal }).catch(
    () => {},
  );
  if (token.isCancelled || !mayRun) {
    await delay(10);
    continue;
  }
  last = next;
  console.log(`run ${next}`);
}
await token.drained();
