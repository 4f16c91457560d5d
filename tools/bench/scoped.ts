import type { TestScope } from "../../tests/support/clean_up.ts";

/** Runs a part of a benchmark, and cleans up behind it. */
export async function scoped(work: (t: TestScope) => Promise<void>): Promise<void> {
  const ends: (() => unknown)[] = [];
  try {
    await work({ after: (end) => void ends.push(end) });
  } finally {
    for (const end of ends) await end();
  }
}
