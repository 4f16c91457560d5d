/**
 * A worker without sockets: it takes jobs from a folder, one after the other. When it is replaced,
 * it finishes the job that it has begun, and takes no other. Each job is taken once, because a file
 * can be renamed once.
 */
import { mkdir, readdir, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { listen } from "../mod.ts";

const folder = process.env.JOBS ?? "jobs";
await mkdir(join(folder, "taken"), { recursive: true });
const token = listen({ logger: console });

/** Takes the next job; `undefined` where there is none. */
async function take(): Promise<string | undefined> {
  for (const name of (await readdir(folder)).filter((name) => name.endsWith(".job")).sort()) {
    const taken = join(folder, "taken", name);
    try {
      await rename(join(folder, name), taken);
      return taken;
    } catch {
      // Another process was faster.
    }
  }
  return undefined;
}

async function work(file: string): Promise<void> {
  const text = (await readFile(file, "utf8")).trim();
  await delay(50); // The work.
  console.log(`done: ${text}`);
  await rm(file);
}

// Resolves when this process is in charge: before that, the old one works.
await token.inheritedState;
token.track(async function worker() {
  while (!token.isCancelled) {
    const job = await take();
    if (job !== undefined) await work(job);
    else await delay(100, undefined, { signal: token.signal }).catch(() => {});
  }
});
await token.drained();
console.log(`pid ${process.pid}: no job is left half done`);
