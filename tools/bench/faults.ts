/** The matrix of faults: what happens to the requests of a light load, fault by server. */
import { faults, runFault, type Subject } from "../../tests/faults/faults.ts";
import { scoped } from "./scoped.ts";

/** A cell of the table, and whether the promise was kept. */
async function tryFault(
  subject: Subject,
  fault: (typeof faults)[number],
): Promise<{ ok: boolean; text: string }> {
  let result = { ok: false, text: "" };
  try {
    await scoped(async (t) => {
      const { failed, requests } = await runFault(t, subject, fault);
      result = {
        ok: true,
        text: fault.mayFail?.(subject) === "all" ? "as asked" : `${failed} of ${requests}`,
      };
    });
  } catch (error) {
    result = { ok: false, text: `BROKEN: ${(error as Error).message.split("\n")[0]}` };
  }
  return result;
}

/**
 * Runs every fault for every server that is wanted, as `server: fault`, and prints the table for
 * the docs: requests that failed, of all.
 */
export async function printFaults(
  all: readonly Subject[],
  isWanted: (row: string) => boolean,
): Promise<number> {
  let broken = 0;
  const isTried = (subject: Subject, fault: (typeof faults)[number]) =>
    fault.onlyFor?.(subject) !== false && isWanted(`${subject.name}: ${fault.name}`);
  const subjects = all.filter((subject) => faults.some((fault) => isTried(subject, fault)));
  console.log(`| what happens | ${subjects.map(({ name }) => name).join(" | ")} |`);
  console.log(`|---|${subjects.map(() => "---|").join("")}`);
  for (
    const fault of faults.filter((fault) => subjects.some((subject) => isTried(subject, fault)))
  ) {
    const cells: string[] = [];
    for (const subject of subjects) {
      if (!isTried(subject, fault)) {
        cells.push("");
        continue;
      }
      const { ok, text } = await tryFault(subject, fault);
      if (!ok) broken++;
      cells.push(text);
    }
    console.log(`| ${fault.name} | ${cells.join(" | ")} |`);
  }
  return broken;
}
