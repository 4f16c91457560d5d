/** Every fault, for one server of each kind. `npm run bench -- faults` has them for all. */
import { test } from "node:test";
import { oneOfEachKind } from "../support/runtimes.ts";
import { faults, runFault, subjectsOf } from "./faults.ts";

// Half of the subjects are on TCP; of the others one fault is enough here, which is about the sockets themselves.
const ABOUT_SOCKETS = /killed/;

for (const subject of subjectsOf(oneOfEachKind)) {
  for (const fault of faults) {
    if (fault.onlyFor?.(subject) === false || (subject.on !== "tcp" && !ABOUT_SOCKETS.test(fault.name))) continue;
    test(`${subject.name}: ${fault.name}`, async (t) => {
      const { failed, requests, failures } = await runFault(t, subject, fault);
      t.diagnostic(`${failed} of ${requests} requests failed${failures && `: ${failures}`}`);
    });
  }
}
