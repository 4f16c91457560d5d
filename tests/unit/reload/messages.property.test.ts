import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { pack, parseFromPredecessor, parseFromSuccessor } from "../../../src/protocol/reload.ts";

const overTheChannel = (message: unknown) => JSON.parse(JSON.stringify(message));
const data = fc.record({
  type: fc.constant("data" as const),
  name: fc.string(),
  data: fc.dictionary(fc.string(), fc.jsonValue()),
});

test("every message arrives as it was sent", () => {
  const fromSuccessor = fc.oneof(
    fc.record({ type: fc.constant("hello" as const), pid: fc.integer({ min: 1, max: 2 ** 31 }) }),
    fc.record({
      type: fc.constant("hello" as const),
      pid: fc.integer({ min: 1, max: 2 ** 31 }),
      abilities: fc.nat(),
    }),
    fc.record({ type: fc.constant("alive" as const), answer: fc.nat() }),
    fc.record({ type: fc.constant("failed" as const), message: fc.string() }),
    fc.constantFrom(
      "ready" as const,
      "in-charge" as const,
      "alive" as const,
      "stopping" as const,
      "checked" as const,
    )
      .map((type) => ({ type })),
    fc.constant({ type: "in-charge" as const, check: true }),
    fc.record({ type: fc.constant("checked" as const), error: fc.string() }),
    data,
  );
  fc.assert(fc.property(fromSuccessor, (message) => {
    assert.deepEqual(parseFromSuccessor(overTheChannel(pack(message))), overTheChannel(message));
  }));
  const fromPredecessor = fc.oneof(
    fc.constantFrom("offered" as const, "commit" as const, "check" as const, "reload" as const).map(
      (type) => ({ type }),
    ),
    fc.record({
      type: fc.constant("revoke" as const),
      pid: fc.integer({ min: 1, max: 2 ** 31 }),
      generation: fc.nat(),
    }),
    fc.record({ type: fc.constant("over" as const), reload: fc.boolean() }),
    fc.record({ type: fc.constant("ask" as const), number: fc.nat() }),
    fc.record({ type: fc.constant("shutdown" as const), signal: fc.string() }),
    data,
  );
  fc.assert(fc.property(fromPredecessor, (message) => {
    assert.deepEqual(parseFromPredecessor(overTheChannel(pack(message))), overTheChannel(message));
  }));
});

test("nothing else is understood, and nothing makes the parsers throw", () => {
  fc.assert(fc.property(fc.anything({ withNullPrototype: true, withBigInt: true }), (raw) => {
    assert.equal(parseFromSuccessor(raw), undefined);
    assert.equal(parseFromPredecessor(raw), undefined);
  }));
  const { type: _, ...mark } = pack({ type: "ready" }) as Record<string, unknown>;
  // Right types with fields of any kind: what is understood has what the type says, and nothing
  // else.
  const types = [
    "hello",
    "data",
    "failed",
    "ready",
    "in-charge",
    "alive",
    "stopping",
    "offered",
    "commit",
    "ask",
    "check",
    "checked",
    "revoke",
    "over",
    "shutdown",
    "reload",
  ];
  const nearly = fc.record({
    type: fc.oneof(fc.constantFrom(...types), fc.anything()),
    pid: fc.oneof(fc.nat(), fc.anything()),
    generation: fc.oneof(fc.nat(), fc.anything()),
    check: fc.anything(),
    error: fc.anything(),
    name: fc.anything(),
    message: fc.anything(),
    signal: fc.anything(),
    reload: fc.anything(),
    data: fc.anything(),
    abilities: fc.anything(),
    answer: fc.anything(),
    number: fc.oneof(fc.nat(), fc.anything()),
  });
  const reached = new Set<string>();
  fc.assert(
    fc.property(nearly, (fields) => {
      const raw = { ...mark, ...fields };
      const successor = parseFromSuccessor(raw);
      const predecessor = parseFromPredecessor(raw);
      for (const understood of [successor, predecessor]) {
        if (understood !== undefined) reached.add(understood.type);
      }
      if (successor?.type === "hello") {
        assert.ok(Number.isSafeInteger(successor.pid) && successor.pid > 0);
      }
      if (successor?.type === "failed") assert.equal(typeof successor.message, "string");
      if (predecessor?.type === "shutdown") assert.equal(typeof predecessor.signal, "string");
      if (predecessor?.type === "over") assert.equal(predecessor.reload, fields.reload === true);
      for (const understood of [successor, predecessor]) {
        if (understood?.type === "data") {
          assert.equal(typeof understood.name, "string");
          assert.ok(
            typeof understood.data === "object" && understood.data !== null &&
              !Array.isArray(understood.data),
          );
        }
        assert.ok(understood === undefined || understood.type === fields.type);
      }
    }),
    { numRuns: 2_000 },
  );
  for (
    const type of [
      "ready",
      "in-charge",
      "alive",
      "stopping",
      "offered",
      "commit",
      "ask",
      "over",
      "reload",
    ]
  ) {
    assert.ok(reached.has(type), `${type} was never drawn`);
  }
});
