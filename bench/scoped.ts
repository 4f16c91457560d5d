import type { TestScope } from "../tests/support/program.ts";

/** Runs a part of a benchmark, and cleans up behind it. */
export async function scoped(work: (t: TestScope) => Promise<void>): Promise<void> {
  const cleanUps: (() => unknown)[] = [];
  try {
    await work({ after: (cleanUp) => void cleanUps.push(cleanUp) });
  } finally {
    for (const cleanUp of cleanUps.reverse()) await cleanUp();
  }
}
