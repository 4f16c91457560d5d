/** Every fault, for one server of each kind. `npm run bench -- faults` has them for all. */
import { test } from "node:test";
import { oneOfEachKind } from "../support/runtimes.ts";
import { faults, runFault, subjectsOf } from "./faults.ts";

// One server of each runtime meets all faults, and the others those that are about the sockets
// themselves.
const ABOUT_SOCKETS = /killed/;
const ALL = ["node22 bind", "Deno.serve", "Bun.serve"];

for (const subject of subjectsOf(oneOfEachKind)) {
  for (const fault of faults) {
    if (
      fault.onlyFor?.(subject) === false ||
      (!ALL.includes(subject.name) && !ABOUT_SOCKETS.test(fault.name))
    ) continue;
    test(`${subject.name}: ${fault.name}`, async (t) => {
      const { failed, requests, failures } = await runFault(t, subject, fault);
      t.diagnostic(`${failed} of ${requests} requests failed${failures && `: ${failures}`}`);
    });
  }
}
