/** What every event does in every state, written down once more from the promises. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  type Event,
  initial,
  next,
  type State,
  successorOf,
} from "../../../src/program/machine.ts";
import type { Successor } from "../../../src/reload/outgoing.ts";

const successor = { pid: 2 } as Successor;
const states: Record<State["name"], State> = {
  waiting: { name: "waiting" },
  probation: { name: "probation" },
  serving: { name: "serving" },
  reloading: { name: "reloading" },
  committed: { name: "committed", successor },
  retiring: { name: "retiring", successor },
  retired: { name: "retired", successor },
  stopping: { name: "stopping" },
};

/**
 * A state, what a reload does in it, and what a shutdown does in it: the next state, and the
 * action.
 */
const expected: [name: State["name"], reload: [string, string?], cancel: [string, string?]][] = [
  ["waiting", ["waiting", "queue"], ["stopping", "decline"]],
  ["probation", ["probation", "queue"], ["stopping", "announce"]],
  ["serving", ["reloading", "begin"], ["stopping"]],
  ["reloading", ["reloading", "queue"], ["stopping", "abort"]],
  ["committed", ["committed", "queue"], ["stopping", "abort"]],
  ["retiring", ["retiring", "pass on"], ["stopping"]],
  ["retired", ["retired", "pass on"], ["retired"]],
  ["stopping", ["stopping", "refuse"], ["stopping"]],
];

for (const [name, reload, cancel] of expected) {
  test(`${name}: a reload and a shutdown`, () => {
    for (const [type, [state, action]] of [["reload", reload], ["cancel", cancel]] as const) {
      const step = next(states[name], { type });
      assert.deepEqual([step.state.name, step.action], [state, action]);
    }
  });
}

test("a process that has told its successor to take charge passes requests on to it until its end", () => {
  for (const name of ["committed", "retiring"] as const) {
    const { state } = next(states[name], { type: "cancel" });
    assert.equal(successorOf(state), successor);
    assert.equal(next(state, { type: "reload" }).action, "pass on");
  }
});

test("a life from the first moment to the last, and a reload that fails", () => {
  let state = initial(true);
  const path: string[] = [state.name];
  const events: Event[] = [
    { type: "take over" },
    { type: "over" },
    { type: "reload" },
    { type: "commit", successor },
    { type: "fail" },
    { type: "reload" },
    { type: "commit", successor },
    { type: "succeed" },
    { type: "leave" },
  ];
  for (const event of events) path.push((state = next(state, event).state).name);
  assert.deepEqual(path, [
    ...["waiting", "probation", "serving", "reloading", "committed", "serving"],
    ...["reloading", "committed", "retiring", "retired"],
  ]);
});

test("whatever happens, a process that stops or has retired never takes charge again", () => {
  const event = fc.constantFrom<Event>(
    ...(["reload", "cancel", "take over", "over", "succeed", "fail", "leave"] as const).map((
      type,
    ) => ({ type })),
    { type: "commit", successor },
  );
  fc.assert(
    fc.property(fc.boolean(), fc.array(event, { maxLength: 40 }), (hasPredecessor, events) => {
      let state = initial(hasPredecessor);
      for (const event of events) {
        const { state: after, action } = next(state, event);
        if (action === "report") continue;
        if (state.name === "stopping" || state.name === "retired") {
          assert.equal(after.name, state.name);
          assert.ok(action === undefined || action === "pass on" || action === "refuse");
        }
        if (action === "begin") assert.equal(state.name, "serving");
        if (action === "pass on") assert.ok(successorOf(after) !== undefined);
        state = after;
      }
    }),
  );
});

/** Whether an event can happen in a state: the table has a cell for it. */
const canHappen = (state: State, event: Event) => next(state, event).action !== "report";

test("the table has 28 cells: an event that cannot happen has none, and is reported", () => {
  const events: Event[] = [
    ...(["reload", "cancel", "take over", "over", "succeed", "fail", "leave"] as const).map((
      type,
    ) => ({ type })),
    { type: "commit", successor },
  ];
  const cells = Object.values(states).flatMap((state) =>
    events.filter((event) => canHappen(state, event))
  );
  assert.equal(cells.length, 28);
  assert.ok(!canHappen(states.serving, { type: "commit", successor }));
});
